//! Writing CBOR into a buffer in memory: definite lengths and shortest heads, as the protocol has them.

use std::fmt;

use bytes::BytesMut;
use serde::Serialize;
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::head::{ARRAY, BYTES, FALSE, MAP, NEGATIVE, NULL, SIMPLE, TEXT, TRUE, UNSIGNED};

/// Why something cannot be written. Nothing that the protocol has is such.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
#[expect(
    clippy::box_collection,
    reason = "a result with one word of error fits into registers"
)]
pub(super) struct WriteError(Box<String>);

impl ser::Error for WriteError {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self(Box::new(why.to_string()))
    }
}

/// Appends an item to the buffer.
pub(super) fn write_item<T: Serialize>(item: &T, buffer: &mut BytesMut) -> Result<(), WriteError> {
    item.serialize(&mut Writer { buffer })
}

struct Writer<'a> {
    buffer: &'a mut BytesMut,
}

impl Writer<'_> {
    #[inline]
    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        // Each length is a constant, so that none of them takes a call.
        if value < 24 {
            self.buffer.extend_from_slice(&[major | value as u8]);
        } else if let Ok(value) = u8::try_from(value) {
            self.buffer.extend_from_slice(&[major | 24, value]);
        } else if let Ok(value) = u16::try_from(value) {
            let [a, b] = value.to_be_bytes();
            self.buffer.extend_from_slice(&[major | 25, a, b]);
        } else if let Ok(value) = u32::try_from(value) {
            let [a, b, c, d] = value.to_be_bytes();
            self.buffer.extend_from_slice(&[major | 26, a, b, c, d]);
        } else {
            self.buffer.extend_from_slice(&[major | 27]);
            self.buffer.extend_from_slice(&value.to_be_bytes());
        }
    }

    #[inline]
    fn string(&mut self, major: u8, content: &[u8]) {
        self.head(major, content.len() as u64);
        self.buffer.extend_from_slice(content);
    }

    /// The head of an array or a map, whose length has to be known.
    #[inline]
    fn collection(&mut self, major: u8, length: Option<usize>) -> Result<(), WriteError> {
        let length = length.ok_or_else(|| unwritable("an array or map of unknown length"))?;
        self.head(major, length as u64);
        Ok(())
    }

    /// The beginning of a variant with content.
    #[inline]
    fn variant(&mut self, name: &str) {
        self.head(MAP, 1);
        self.string(TEXT, name.as_bytes());
    }
}

impl Serializer for &mut Writer<'_> {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), WriteError> {
        self.head(SIMPLE, if value { TRUE } else { FALSE });
        Ok(())
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> Result<(), WriteError> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i16(self, value: i16) -> Result<(), WriteError> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i32(self, value: i32) -> Result<(), WriteError> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Result<(), WriteError> {
        match u64::try_from(value) {
            Ok(value) => self.head(UNSIGNED, value),
            // CBOR's -1 - n is the complement of n.
            Err(_) => self.head(NEGATIVE, !value as u64),
        }
        Ok(())
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), WriteError> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Result<(), WriteError> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Result<(), WriteError> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Result<(), WriteError> {
        self.head(UNSIGNED, value);
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), WriteError> {
        Err(unwritable("a float"))
    }

    fn serialize_f64(self, _: f64) -> Result<(), WriteError> {
        Err(unwritable("a float"))
    }

    fn serialize_char(self, value: char) -> Result<(), WriteError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), WriteError> {
        self.string(TEXT, value.as_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), WriteError> {
        self.string(BYTES, value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), WriteError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), WriteError> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), WriteError> {
        self.head(SIMPLE, NULL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), WriteError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), WriteError> {
        self.serialize_str(name)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        self.variant(name);
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self, WriteError> {
        self.collection(ARRAY, length)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Self, WriteError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Self, WriteError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        length: usize,
    ) -> Result<Self, WriteError> {
        self.variant(name);
        self.serialize_seq(Some(length))
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Self, WriteError> {
        self.collection(MAP, length)?;
        Ok(self)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Self, WriteError> {
        self.serialize_map(Some(length))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        length: usize,
    ) -> Result<Self, WriteError> {
        self.variant(name);
        self.serialize_map(Some(length))
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Arrays: their items follow the head.
macro_rules! write_items {
    ($($collection:ident :: $write:ident),*) => {$(
        impl $collection for &mut Writer<'_> {
            type Ok = ();
            type Error = WriteError;

            #[inline]
            fn $write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
                value.serialize(&mut **self)
            }

            #[inline]
            fn end(self) -> Result<(), WriteError> {
                Ok(())
            }
        }
    )*};
}

write_items! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
}

/// Structs: keys and values follow the head. Serde has counted out the fields that are left out.
macro_rules! write_fields {
    ($($collection:ident),*) => {$(
        impl $collection for &mut Writer<'_> {
            type Ok = ();
            type Error = WriteError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), WriteError> {
                self.string(TEXT, key.as_bytes());
                value.serialize(&mut **self)
            }

            #[inline]
            fn end(self) -> Result<(), WriteError> {
                Ok(())
            }
        }
    )*};
}

write_fields! { SerializeStruct, SerializeStructVariant }

impl SerializeMap for &mut Writer<'_> {
    type Ok = ();
    type Error = WriteError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), WriteError> {
        key.serialize(&mut **self)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
        value.serialize(&mut **self)
    }

    #[inline]
    fn end(self) -> Result<(), WriteError> {
        Ok(())
    }
}

#[cold]
fn unwritable(what: &str) -> WriteError {
    ser::Error::custom(format_args!("{what} cannot be written"))
}
