//! Reading CBOR from a frame that is in memory as a whole.
//!
//! Libraries that read from streams go byte by byte through a buffer of their own; this reader borrows from the frame
//! and takes a third of the time. It is strict where the protocol is: byte strings are no text, structs are maps, an
//! array has the length that is wanted, and depth counts arrays, maps and tags.

use std::borrow::Cow;
use std::fmt;

use jobq_proto::{MAX_DEPTH, MAX_ITEMS};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::head::{
    ARRAY, BREAK, BYTES, FALSE, Head, MAP, NEGATIVE, NULL, SIMPLE, TAG, TEXT, TRUE, UNDEFINED, UNSIGNED,
};

/// Why a frame is no message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
#[expect(
    clippy::box_collection,
    reason = "a result with one word of error fits into registers"
)]
pub(super) struct ReadError(Box<String>);

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self(Box::new(why.to_string()))
    }
}

/// Reads one item that is the whole of `frame`.
pub(super) fn read_item<'de, T: Deserialize<'de>>(frame: &'de [u8]) -> Result<T, ReadError> {
    let mut reader = Reader {
        rest: frame,
        depth_left: MAX_DEPTH,
    };
    let item = T::deserialize(&mut reader)?;
    match reader.rest.len() {
        0 => Ok(item),
        more => Err(error(format_args!("bytes follow the message: {more}"))),
    }
}

struct Reader<'de> {
    rest: &'de [u8],
    depth_left: usize,
}

impl<'de> Reader<'de> {
    /// The next head that is no tag's. What tags say is of no interest to messages.
    #[inline]
    fn head(&mut self) -> Result<Head, ReadError> {
        if let Some((&first, rest)) = self.rest.split_first()
            && first & 0x1f < 24
            && first >> 5 != TAG
        {
            // Most heads are one byte long.
            self.rest = rest;
            return Ok(Head {
                major: first >> 5,
                value: Some(u64::from(first & 0x1f)),
            });
        }
        self.head_past_tags()
    }

    /// A number as all peers write it: not negative, and without a tag.
    #[inline]
    fn plain_number(&mut self) -> Option<u64> {
        let (number, rest) = match self.rest {
            [number @ ..24, rest @ ..] => (u64::from(*number), rest),
            [24, number, rest @ ..] => (u64::from(*number), rest),
            [25, a, b, rest @ ..] => (u64::from(u16::from_be_bytes([*a, *b])), rest),
            [26, a, b, c, d, rest @ ..] => (u64::from(u32::from_be_bytes([*a, *b, *c, *d])), rest),
            _ => return None,
        };
        self.rest = rest;
        Some(number)
    }

    fn head_past_tags(&mut self) -> Result<Head, ReadError> {
        let mut tags = 0;
        loop {
            let head = self.any_head()?;
            if head.major != TAG {
                return Ok(head);
            }
            tags += 1;
            if tags > self.depth_left {
                return Err(too_deep());
            }
        }
    }

    #[inline]
    fn any_head(&mut self) -> Result<Head, ReadError> {
        let (&first, rest) = self.rest.split_first().ok_or_else(too_short)?;
        let major = first >> 5;
        let (value, rest) = match first & 0x1f {
            value @ ..24 => (u64::from(value), rest),
            24 => number(rest, |bytes: [u8; 1]| u64::from(bytes[0]))?,
            25 => number(rest, |bytes| u64::from(u16::from_be_bytes(bytes)))?,
            26 => number(rest, |bytes| u64::from(u32::from_be_bytes(bytes)))?,
            27 => number(rest, u64::from_be_bytes)?,
            31 if matches!(major, BYTES | TEXT | ARRAY | MAP) => {
                self.rest = rest;
                return Ok(Head { major, value: None });
            }
            _ => {
                return Err(error(format_args!(
                    "no CBOR item begins with the byte {first:#04x}"
                )));
            }
        };
        self.rest = rest;
        Ok(Head {
            major,
            value: Some(value),
        })
    }

    /// The next head, which has to be of this kind.
    #[inline]
    fn head_of(&mut self, major: u8) -> Result<Head, ReadError> {
        let head = self.head()?;
        if head.major == major {
            Ok(head)
        } else {
            Err(wrong_kind(head.major, major))
        }
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'de [u8], ReadError> {
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = taken.ok_or_else(too_short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The content of a string, whole or in pieces.
    #[inline]
    fn string(&mut self, head: Head) -> Result<Cow<'de, [u8]>, ReadError> {
        match head.value {
            Some(length) => self.take(length).map(Cow::Borrowed),
            None => self.pieces(head.major).map(Cow::Owned),
        }
    }

    #[cold]
    fn pieces(&mut self, major: u8) -> Result<Vec<u8>, ReadError> {
        let mut whole = Vec::new();
        while !self.at_break()? {
            match self.any_head()? {
                Head {
                    major: found,
                    value: Some(length),
                } if found == major => {
                    let piece = self.take(length)?;
                    if major == TEXT {
                        utf8(piece)?;
                    }
                    whole.extend_from_slice(piece);
                }
                _ => return Err(error("a string in pieces has a piece of another kind")),
            }
        }
        Ok(whole)
    }

    /// Whether the end of something without a length is here; it is taken.
    fn at_break(&mut self) -> Result<bool, ReadError> {
        match self.rest.split_first() {
            Some((&BREAK, rest)) => {
                self.rest = rest;
                Ok(true)
            }
            Some(_) => Ok(false),
            None => Err(too_short()),
        }
    }

    /// Goes one level down, to the items of an array or a map.
    #[inline]
    fn inside<T>(
        &mut self,
        left: Option<u64>,
        read: impl FnOnce(&mut Items<'_, 'de>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or_else(too_deep)?;
        if left.is_some_and(|left| left > MAX_ITEMS) {
            return Err(too_many());
        }
        let mut items = Items {
            reader: self,
            left,
            seen: 0,
        };
        let value = read(&mut items)?;
        if items.more()? {
            return Err(error("an array or map has more items than are wanted"));
        }
        self.depth_left += 1;
        Ok(value)
    }

    /// Passes over one item. It has to be well-formed nevertheless.
    fn skip(&mut self) -> Result<(), ReadError> {
        let head = self.head()?;
        match head.major {
            UNSIGNED | NEGATIVE | SIMPLE => Ok(()),
            BYTES => self.string(head).map(drop),
            TEXT => utf8(&self.string(head)?).map(drop),
            major => self.inside(head.value, |items| {
                while items.more()? {
                    items.reader.skip()?;
                    if major == MAP {
                        items.reader.skip()?;
                    }
                }
                Ok(())
            }),
        }
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = ReadError;

    /// For whatever is neither string, array nor map; those have to be what is wanted.
    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if let Some(number) = self.plain_number() {
            return visitor.visit_u64(number);
        }
        let head = self.head()?;
        let value = head.value.unwrap_or_default();
        match head.major {
            UNSIGNED => visitor.visit_u64(value),
            NEGATIVE => match i64::try_from(value) {
                Ok(value) => visitor.visit_i64(-1 - value),
                Err(_) => Err(error("a negative number is out of range")),
            },
            SIMPLE if value == FALSE => visitor.visit_bool(false),
            SIMPLE if value == TRUE => visitor.visit_bool(true),
            SIMPLE if value == NULL || value == UNDEFINED => visitor.visit_unit(),
            major => Err(error(format_args!(
                "found {}, which is not wanted here",
                kind(major)
            ))),
        }
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let head = self.head_of(TEXT)?;
        match self.string(head)? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(utf8(text)?),
            Cow::Owned(text) => visitor.visit_str(utf8(&text)?),
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    /// A key or the name of a variant. Those that are known are ASCII and compared byte by byte.
    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let head = self.head_of(TEXT)?;
        match self.string(head)? {
            Cow::Borrowed(name) if name.is_ascii() => visitor.visit_borrowed_bytes(name),
            name => visitor.visit_str(utf8(&name)?),
        }
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let head = self.head_of(BYTES)?;
        match self.string(head)? {
            Cow::Borrowed(bytes) => visitor.visit_borrowed_bytes(bytes),
            Cow::Owned(bytes) => visitor.visit_byte_buf(bytes),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.rest.split_first() {
            // Null and undefined.
            Some((0xf6 | 0xf7, rest)) => {
                self.rest = rest;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let head = self.head_of(ARRAY)?;
        self.inside(head.value, |items| visitor.visit_seq(items))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let head = self.head_of(MAP)?;
        self.inside(head.value, |items| visitor.visit_map(items))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_map(visitor)
    }

    /// A text, or a map of one entry whose key is the variant.
    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if self.rest.first().is_some_and(|first| first >> 5 == TEXT) {
            return visitor.visit_enum(Unit(self));
        }
        match self.head_of(MAP)?.value {
            Some(1) => self.inside(Some(0), |items| visitor.visit_enum(Entry(&mut *items.reader))),
            _ => Err(error("a message is a map of one entry")),
        }
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char unit unit_struct
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The items of an array, or the keys and values of a map.
struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    /// How many there still are; none if that is not known before the break.
    left: Option<u64>,
    /// How many there were, where that is not known beforehand.
    seen: u64,
}

impl Items<'_, '_> {
    /// Whether there is one more, which the caller then reads.
    #[inline]
    fn more(&mut self) -> Result<bool, ReadError> {
        match &mut self.left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => {
                if self.reader.at_break()? {
                    self.left = Some(0);
                    return Ok(false);
                }
                self.seen += 1;
                if self.seen > MAX_ITEMS {
                    return Err(too_many());
                }
                Ok(true)
            }
        }
    }

    /// What a peer says about lengths counts only as far as it has sent that many bytes.
    fn likely(&self) -> Option<usize> {
        let left = usize::try_from(self.left?).unwrap_or(usize::MAX);
        Some(left.min(self.reader.rest.len()))
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = ReadError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        if !self.more()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.likely()
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = ReadError;

    #[inline]
    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        if !self.more()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        self.likely()
    }
}

/// A variant that is a bare text.
struct Unit<'a, 'de>(&'a mut Reader<'de>);

impl<'de> EnumAccess<'de> for Unit<'_, 'de> {
    type Error = ReadError;
    type Variant = Bare;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Bare), ReadError> {
        Ok((seed.deserialize(self.0)?, Bare))
    }
}

/// Nothing follows the variant's name.
struct Bare;

impl<'de> VariantAccess<'de> for Bare {
    type Error = ReadError;

    #[inline]
    fn unit_variant(self) -> Result<(), ReadError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, ReadError> {
        Err(error("a name stands alone and wants a value"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, ReadError> {
        Err(error("a name stands alone and wants a value"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ReadError> {
        Err(error("a name stands alone and wants a value"))
    }
}

/// A variant that is the only entry of a map.
struct Entry<'a, 'de>(&'a mut Reader<'de>);

impl<'de> EnumAccess<'de> for Entry<'_, 'de> {
    type Error = ReadError;
    type Variant = Self;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), ReadError> {
        Ok((seed.deserialize(&mut *self.0)?, self))
    }
}

impl<'de> VariantAccess<'de> for Entry<'_, 'de> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Err(error("a name has a value and wants none"))
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.0.deserialize_map(visitor)
    }
}

#[inline]
fn number<const N: usize>(
    bytes: &[u8],
    convert: impl FnOnce([u8; N]) -> u64,
) -> Result<(u64, &[u8]), ReadError> {
    let (number, rest) = bytes.split_first_chunk().ok_or_else(too_short)?;
    Ok((convert(*number), rest))
}

#[inline]
fn utf8(bytes: &[u8]) -> Result<&str, ReadError> {
    std::str::from_utf8(bytes).map_err(|_| error("a text is not UTF-8"))
}

fn kind(major: u8) -> &'static str {
    match major {
        UNSIGNED => "a number",
        NEGATIVE => "a negative number",
        BYTES => "a byte string",
        TEXT => "a text",
        ARRAY => "an array",
        MAP => "a map",
        TAG => "a tag",
        _ => "a simple value or a float",
    }
}

#[cold]
fn error(why: impl fmt::Display) -> ReadError {
    de::Error::custom(why)
}

#[cold]
fn wrong_kind(found: u8, wanted: u8) -> ReadError {
    error(format_args!("found {} instead of {}", kind(found), kind(wanted)))
}

#[cold]
fn too_short() -> ReadError {
    error("it ends too early")
}

#[cold]
fn too_many() -> ReadError {
    error(format_args!("an array or map has more than {MAX_ITEMS} items"))
}

#[cold]
fn too_deep() -> ReadError {
    error(format_args!("it is nested deeper than {MAX_DEPTH} levels"))
}
