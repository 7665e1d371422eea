//! Messages that are made up field by field, of every type that there is and will be.

use bytes::Bytes;
use jobq_proto::Fence;
use jobq_proto::message::Resume;
use serde::de::value::{Error, StrDeserializer, U64Deserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer};
use serde::de::{MapAccess, SeqAccess, VariantAccess, Visitor};
use uuid::Uuid;

use super::script::Script;

/// How much of each kind is remembered; newer ones take the places of older ones.
const MEMORY: usize = 64;

/// Names of jobs and workers: good ones, and others.
pub(super) const NAMES: [&str; 8] = ["a", "b", "c", "", "a b", "ä", "-", "a\u{0}"];

/// Texts that some field knows, and one that none does.
const WORDS: [&str; 16] = [
    "High",
    "Normal",
    "Low",
    "Queued",
    "completed",
    "Failed",
    "Cancelled",
    "Processing",
    "Scheduled",
    "",
    "bad\u{1b}[0m",
    "internal",
    "session_taken",
    "shutting_down",
    "window_exceeded",
    "queue_full",
];

/// What has been said before, so that made-up messages speak of it.
#[derive(Debug, Default)]
pub(super) struct Known {
    store: Uuid,
    resumes: Memory<Resume>,
    runs: Memory<(u64, Fence)>,
    requests: Memory<u64>,
}

impl Known {
    /// A session that can be resumed.
    pub(super) fn session(&mut self, resume: Resume) {
        self.store = resume.store;
        self.resumes.put(resume);
    }

    pub(super) fn run(&mut self, id: u64, fence: Fence) {
        self.runs.put((id, fence));
    }

    pub(super) fn job(&mut self, id: u64) {
        self.runs.put((id, Fence { epoch: 1, seq: 0 }));
    }

    pub(super) fn request(&mut self, request: u64) {
        self.requests.put(request);
    }

    /// A run that somebody has been told of.
    pub(super) fn any_run(&self, script: &mut Script<'_>) -> Option<(u64, Fence)> {
        self.runs.pick(script.byte()).copied()
    }

    pub(super) fn any_session(&self, script: &mut Script<'_>) -> Option<Resume> {
        self.resumes.pick(script.byte()).cloned()
    }

    pub(super) fn any_request(&self, script: &mut Script<'_>) -> Option<u64> {
        self.requests.pick(script.byte()).copied()
    }
}

#[derive(Debug)]
struct Memory<T> {
    items: Vec<T>,
    next: usize,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            next: 0,
        }
    }
}

impl<T> Memory<T> {
    fn put(&mut self, item: T) {
        if self.items.len() < MEMORY {
            self.items.push(item);
        } else {
            self.items[self.next] = item;
            self.next = (self.next + 1) % MEMORY;
        }
    }

    fn pick(&self, byte: u8) -> Option<&T> {
        self.items.get(usize::from(byte) % self.items.len().max(1))
    }
}

/// A value of any type that can be read, with the script choosing what is in it; none where it chooses what the type
/// does not have.
pub(super) fn invent<T: DeserializeOwned>(script: &mut Script<'_>, known: &Known) -> Option<T> {
    T::deserialize(Inventor {
        script,
        known,
        field: "",
    })
    .ok()
}

/// Answers whoever reads a value with what the script says.
struct Inventor<'s, 'i> {
    script: &'s mut Script<'i>,
    known: &'s Known,
    /// What the value is for.
    field: &'static str,
}

impl<'i> Inventor<'_, 'i> {
    fn again(&mut self, field: &'static str) -> Inventor<'_, 'i> {
        Inventor {
            script: self.script,
            known: self.known,
            field,
        }
    }

    fn number(&mut self) -> u64 {
        let choice = self.script.byte();
        if self.field == "version" && choice < 240 {
            return u64::from(jobq_proto::PROTOCOL_VERSION);
        }
        match choice {
            0..64 => self.of_something_known().unwrap_or(u64::from(choice) % 8),
            64..192 => u64::from(choice) % 16,
            192..224 => u64::from(self.script.u16()),
            224..240 => u64::from(self.script.u16()) * 1_000,
            240..250 => self.script.u64(),
            _ => [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 32, 1 << 20, 1_000_000][usize::from(choice) - 250],
        }
    }

    fn of_something_known(&mut self) -> Option<u64> {
        let known = self.known;
        match self.field {
            "session" => known.any_session(self.script).map(|resume| resume.session),
            "request" => known.any_request(self.script),
            _ => known.any_run(self.script).map(|(id, _)| id),
        }
    }

    fn text(&mut self) -> String {
        let choice = self.script.byte();
        match self.field {
            "name" | "names" => match choice {
                255 => "n".repeat(129),
                254 => "n".repeat(128),
                _ => NAMES[usize::from(choice % 32) % NAMES.len()].to_owned(),
            },
            _ => match choice {
                0..128 => WORDS[usize::from(choice) % WORDS.len()].to_owned(),
                128..240 => {
                    let bytes = self.script.bytes(usize::from(choice - 128));
                    String::from_utf8_lossy(bytes).into_owned()
                }
                _ => "x".repeat(usize::from(self.script.u16())),
            },
        }
    }

    fn byte_string(&mut self) -> Bytes {
        let choice = self.script.byte();
        match (self.field, choice) {
            ("secret", 0..240) => match self.known.any_session(self.script) {
                Some(resume) => resume.secret,
                None => Bytes::from(vec![0; 32]),
            },
            ("store", 0..240) => Bytes::copy_from_slice(self.known.store.as_bytes()),
            ("uuid" | "store" | "backup", _) => {
                Bytes::copy_from_slice(Uuid::from_u128(choice.into()).as_bytes())
            }
            (_, 0..128) => Bytes::copy_from_slice(self.script.bytes(choice.into())),
            _ => Bytes::from(vec![0xf6; self.script.u16().into()]),
        }
    }

    fn length(&mut self) -> usize {
        match self.script.byte() {
            choice @ 0..224 => usize::from(choice % 4),
            choice @ 224..252 => usize::from(choice - 224),
            _ => usize::from(self.script.u16() % 512),
        }
    }
}

macro_rules! numbers {
    ($($deserialize:ident: $type:ty => $visit:ident),+ $(,)?) => {
        $(
            fn $deserialize<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
                #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
                visitor.$visit(self.number() as $type)
            }
        )+
    };
}

impl<'de> Deserializer<'de> for Inventor<'_, '_> {
    type Error = Error;

    numbers! {
        deserialize_u8: u8 => visit_u8,
        deserialize_u16: u16 => visit_u16,
        deserialize_u32: u32 => visit_u32,
        deserialize_u64: u64 => visit_u64,
        deserialize_i8: i8 => visit_i8,
        deserialize_i16: i16 => visit_i16,
        deserialize_i32: i32 => visit_i32,
        deserialize_i64: i64 => visit_i64,
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("it is not said what is wanted"))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.script.byte() % 2 == 1)
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bytes(&self.byte_string())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.script.byte() % 2 {
            0 => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        let left = self.length();
        visitor.visit_seq(Items { inventor: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, Error> {
        if self.field == "fence"
            && self.script.byte() < 224
            && let Some((_, fence)) = self.known.any_run(self.script)
        {
            let numbers = [fence.epoch, fence.seq].into_iter();
            return visitor.visit_seq(serde::de::value::SeqDeserializer::<_, Error>::new(numbers));
        }
        self.field = "";
        visitor.visit_seq(Items {
            inventor: self,
            left: length,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields {
            inventor: self,
            fields,
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Variant {
            inventor: self,
            variants,
        })
    }

    serde::forward_to_deserialize_any! { i128 u128 f32 f64 char unit_struct tuple_struct map identifier ignored_any }
}

struct Items<'s, 'i> {
    inventor: Inventor<'s, 'i>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let field = self.inventor.field;
        seed.deserialize(self.inventor.again(field)).map(Some)
    }
}

struct Fields<'s, 'i> {
    inventor: Inventor<'s, 'i>,
    fields: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((field, rest)) = self.fields.split_first() else {
            return Ok(None);
        };
        self.inventor.field = field;
        self.fields = rest;
        let key: StrDeserializer<'_, Error> = (*field).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let field = self.inventor.field;
        seed.deserialize(self.inventor.again(field))
    }
}

struct Variant<'s, 'i> {
    inventor: Inventor<'s, 'i>,
    variants: &'static [&'static str],
}

impl<'de, 's, 'i> EnumAccess<'de> for Variant<'s, 'i> {
    type Error = Error;
    type Variant = Inventor<'s, 'i>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Inventor<'s, 'i>), Error> {
        let choice = self.inventor.script.below(self.variants.len().clamp(1, 255));
        let index: U64Deserializer<Error> = (choice as u64).into_deserializer();
        Ok((seed.deserialize(index)?, self.inventor))
    }
}

impl<'de> VariantAccess<'de> for Inventor<'_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jobq_proto::{ClientMessage, ServerMessage};
    use serde::Serialize;

    use super::*;
    use crate::Chance;

    /// The names of the messages that come of many scripts.
    fn names_of<M: DeserializeOwned + Serialize>() -> BTreeSet<String> {
        let mut chance = Chance::new(7);
        let names = (0..2_000).filter_map(|_| {
            let input: Vec<u8> = (0..200)
                .map(|_| chance.between(0, 255).try_into().expect("a byte"))
                .collect();
            let message: M = invent(&mut Script::new(&input), &Known::default())?;
            let json = serde_json::to_value(&message).expect("messages are maps with text keys");
            json.as_object()?.keys().next().cloned()
        });
        names.collect()
    }

    fn all(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn scripts_make_up_every_message_there_is() {
        assert_eq!(names_of::<ServerMessage>(), all(ServerMessage::NAMES));
        assert_eq!(names_of::<ClientMessage>(), all(ClientMessage::NAMES));
    }
}
