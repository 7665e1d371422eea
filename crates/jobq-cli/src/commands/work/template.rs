//! The words of a command, and what of a job is put into them.
//!
//! Only the known forms are replaced, and `${…}` is the shell's. So `awk '{print}'`, `${HOME}` and `{{.State}}` stay
//! what they are.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use bytes::Bytes;
use jobq_worker::{Job, JobError};
use serde_json::Value;

use super::scripts;

/// A word of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// As it was written.
    written: OsString,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Form(Form),
}

/// What is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// `{}` or `{params}`.
    Params,
    /// `{params.file}`, by the names between the dots.
    Field(Vec<String>),
    Id,
    Uuid,
    Name,
    Attempt,
    Username,
}

/// Why words are no template.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum TemplateError {
    /// A form that begins like one of a field is none.
    #[error(
        "{form:?} at byte {place} of the word {word:?} {problem}; expected one such as {{params.file}} or \
         {{params.sizes.0}}, or {{{{…}}}} for the text itself"
    )]
    Field {
        form: String,
        place: usize,
        word: String,
        problem: &'static str,
    },
    /// The program itself is to be replaced.
    #[error(
        "the program {0:?} has a form such as {{}} in it, and has to be the same for all jobs; its arguments may differ"
    )]
    Program(String),
    /// What a job says would become code.
    #[error(
        "the word {word:?} is a script for {interpreter}, and {form} in it would run what a job says as code; read \
         standard input or JOBQ_ID and its like in there, give it as an argument of its own (sh -c 'cat \"$1\"' sh {form}), \
         or write {{{form}}} for the text {form}"
    )]
    Script {
        word: String,
        interpreter: String,
        form: String,
    },
}

/// Reads a command's words.
///
/// # Errors
/// [`TemplateError`].
pub(super) fn parse(command: &[OsString]) -> Result<Vec<Word>, TemplateError> {
    let words: Vec<Word> = command.iter().map(Word::parse).collect::<Result<_, _>>()?;
    for (place, word) in words.iter().enumerate() {
        let Some(form) = word.forms().next() else { continue };
        if place == 0 {
            return Err(TemplateError::Program(word.shown()));
        }
        if let Some(interpreter) = scripts::interpreter(command, place) {
            return Err(TemplateError::Script {
                word: word.shown(),
                interpreter,
                form: form.shown(),
            });
        }
    }
    Ok(words)
}

impl Word {
    fn parse(word: &OsString) -> Result<Self, TemplateError> {
        let bytes = word.as_bytes();
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let Some(form) = escaped(rest) {
                text.extend_from_slice(form);
                at += form.len() + 2;
                continue;
            }
            let is_shells = bytes[..at].ends_with(b"$");
            let form = (!is_shells).then(|| Form::at(rest)).flatten();
            let Some((form, length)) = form else {
                text.push(bytes[at]);
                at += 1;
                continue;
            };
            let form = form.map_err(|problem| TemplateError::Field {
                form: String::from_utf8_lossy(&rest[..length]).into_owned(),
                place: at + 1,
                word: word.to_string_lossy().into_owned(),
                problem,
            })?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Form(form));
            at += length;
        }
        if !text.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self {
            written: word.clone(),
            pieces,
        })
    }

    /// The word of a job.
    ///
    /// # Errors
    /// The job has not what the word takes, and never will.
    pub(super) fn expand(&self, job: &Job<Bytes>, params: &Value) -> Result<OsString, JobError> {
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => bytes.extend_from_slice(text),
                Piece::Form(form) => {
                    let value = form.value(job, params).map_err(|problem| self.unfit(&problem))?;
                    bytes.extend(value.into_bytes());
                }
            }
        }
        if bytes.contains(&0) {
            return Err(self.unfit("the job puts a NUL character there, and no argument can hold one"));
        }
        Ok(OsString::from_vec(bytes))
    }

    /// The word without anything replaced, which is what the program itself is.
    pub(super) fn literal(&self) -> OsString {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Form(form) => form.shown().into_bytes(),
        };
        OsString::from_vec(self.pieces.iter().flat_map(text).collect())
    }

    fn forms(&self) -> impl Iterator<Item = &Form> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Form(form) => Some(form),
            Piece::Text(_) => None,
        })
    }

    fn unfit(&self, problem: &str) -> JobError {
        JobError::never(format!(
            "the job does not fit the command's word {:?}: {problem}",
            self.shown()
        ))
    }

    fn shown(&self) -> String {
        self.written.to_string_lossy().into_owned()
    }
}

impl Form {
    const PARAMS: &'static str = "params";

    /// The form that the bytes begin with, and its length; `Some(Err)` if it is a broken one.
    fn at(bytes: &[u8]) -> Option<(Result<Self, &'static str>, usize)> {
        let inner = bytes.strip_prefix(b"{")?;
        let end = inner.iter().position(|byte| matches!(byte, b'}' | b'{'));
        let closed = end.is_some_and(|end| inner[end] == b'}');
        let text = &inner[..end.unwrap_or(inner.len())];
        if let Some(path) = text
            .strip_prefix(Self::PARAMS.as_bytes())
            .and_then(|text| text.strip_prefix(b"."))
        {
            let length = 1 + text.len() + usize::from(closed);
            let form = if closed {
                Self::field(path)
            } else {
                Err("has no closing brace (a word with a space in it needs quotes around it)")
            };
            return Some((form, length));
        }
        let form = match text {
            b"" | b"params" => Self::Params,
            b"id" => Self::Id,
            b"uuid" => Self::Uuid,
            b"name" => Self::Name,
            b"attempt" => Self::Attempt,
            b"username" => Self::Username,
            _ => return None,
        };
        closed.then_some((Ok(form), text.len() + 2))
    }

    fn field(path: &[u8]) -> Result<Self, &'static str> {
        let path = str::from_utf8(path).map_err(|_| "is no UTF-8")?;
        let names: Vec<String> = path.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err("has an empty name between its dots");
        }
        Ok(Self::Field(names))
    }

    fn value(&self, job: &Job<Bytes>, params: &Value) -> Result<String, String> {
        Ok(match self {
            Self::Params => match params {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            },
            Self::Field(names) => return field(params, names),
            Self::Id => job.id.to_string(),
            Self::Uuid => job.uuid.to_string(),
            Self::Name => job.name.clone(),
            Self::Attempt => job.attempt.to_string(),
            Self::Username => job.username.clone().ok_or("it has no username")?,
        })
    }

    fn shown(&self) -> String {
        let inner = match self {
            Self::Params => "",
            Self::Field(names) => return format!("{{{}.{}}}", Self::PARAMS, names.join(".")),
            Self::Id => "id",
            Self::Uuid => "uuid",
            Self::Name => "name",
            Self::Attempt => "attempt",
            Self::Username => "username",
        };
        format!("{{{inner}}}")
    }
}

/// The form in doubled braces that the bytes begin with: `{id}` of `{{id}}`.
fn escaped(bytes: &[u8]) -> Option<&[u8]> {
    let form = bytes.strip_prefix(b"{")?;
    let (_, length) = Form::at(form).filter(|(form, _)| form.is_ok())?;
    form[length..].starts_with(b"}").then_some(&form[..length])
}

/// A field of the params, as an argument.
fn field(params: &Value, names: &[String]) -> Result<String, String> {
    let mut value = params;
    for (depth, name) in names.iter().enumerate() {
        let inner = match value {
            Value::Object(fields) => fields.get(name),
            Value::Array(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
            _ => None,
        };
        value = inner.ok_or_else(|| {
            let path = names[..=depth].join(".");
            format!("the params have no field {path:?}")
        })?;
    }
    let kind = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => return Ok(value.to_string()),
        Value::Null => "null",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let path = names.join(".");
    Err(format!(
        "the field {path:?} of the params is {kind}; expected a text, a number, true or false"
    ))
}

#[cfg(test)]
mod tests {
    use jobq_worker::Retry;
    use serde_json::json;

    use super::*;

    fn word(text: &str) -> Word {
        let mut words = parse(&["program".into(), text.into()]).expect(text);
        words.remove(1)
    }

    fn expand(text: &str, params: Value) -> Result<String, String> {
        let mut job = Job::detached("thumbnail", Bytes::new());
        job.attempt = 3;
        let expanded = word(text).expand(&job, &params);
        expanded
            .map(|word| word.into_string().expect("it is UTF-8"))
            .map_err(|error| {
                assert_eq!(error.retries(), Retry::Never);
                error.reason().to_owned()
            })
    }

    #[test]
    fn words_without_a_known_form_stay_as_they_are() {
        for text in [
            "",
            "{print}",
            "{print $1}",
            "${HOME}",
            "${id}",
            "${}",
            "${params.file}",
            "{{.State}}",
            "{{ range . }}{{ end }}",
            "{ids}",
            "{id",
            "id}",
            "{ id }",
            "}{",
            "{{",
            "}}",
            "{paramsx.a}",
            "{a,b}",
            "{1..9}",
        ] {
            assert_eq!(expand(text, json!({"file": "x"})), Ok(text.to_owned()), "{text}");
        }
        let bytes = OsString::from_vec(vec![0xff, b'{', b'x', b'}']);
        let words = parse(&["program".into(), bytes.clone()]).expect("nothing is wrong with it");
        let job = Job::detached("x", Bytes::new());
        assert_eq!(words[1].expand(&job, &Value::Null), Ok(bytes));
    }

    #[test]
    fn known_forms_are_replaced_wherever_they_stand() {
        let params = json!({"file": "a b.png", "sizes": [200, 1.5], "deep": {"0": true}});
        for (text, expected) in [
            ("{params.file}", "a b.png"),
            ("out/{params.file}.{id}", "out/a b.png.0"),
            ("{params.sizes.0}x{params.sizes.1}", "200x1.5"),
            ("{params.deep.0}", "true"),
            ("{name}-{attempt}", "thumbnail-3"),
            ("{uuid}", "00000000-0000-0000-0000-000000000000"),
            ("{\"id\":{id}}", "{\"id\":0}"),
            ("{x{id}}", "{x0}"),
        ] {
            assert_eq!(expand(text, params.clone()), Ok(expected.to_owned()), "{text}");
        }
        assert_eq!(expand("{}", json!("a \"text\"")), Ok("a \"text\"".to_owned()));
        assert_eq!(
            expand("{params}", json!({"a": [1, null]})),
            Ok(r#"{"a":[1,null]}"#.to_owned())
        );
        assert_eq!(expand("{}", json!(null)), Ok("null".to_owned()));
    }

    #[test]
    fn what_a_job_says_is_not_read_again() {
        assert_eq!(
            expand("{params.a}", json!({"a": "{id} $(x)"})),
            Ok("{id} $(x)".to_owned())
        );
    }

    #[test]
    fn doubled_braces_are_the_text_of_a_form() {
        for (text, expected) in [
            ("{{}}", "{}"),
            ("{{id}}", "{id}"),
            ("{{params.file}} {id}", "{params.file} 0"),
        ] {
            assert_eq!(
                expand(text, json!({"file": "x"})),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_field_that_is_missing_or_no_plain_value_fails_the_job_and_is_named() {
        let params = json!({"file": null, "sizes": [1], "to": {"x": 1}, "nul": "a\0b"});
        for (text, part) in [
            ("{params.name}", "no field \"name\""),
            ("{params.sizes.1}", "no field \"sizes.1\""),
            ("{params.sizes.x.y}", "no field \"sizes.x\""),
            ("{params.file}", "\"file\" of the params is null"),
            ("{params.sizes}", "is a list"),
            ("{params.to}", "is an object"),
            ("{params.nul}", "NUL"),
            ("{username}", "it has no username"),
        ] {
            let reason = expand(text, params.clone()).expect_err(text);
            assert!(reason.contains(part) && reason.contains(text), "{reason}");
        }
        assert!(expand("{params.a}", json!("text")).is_err());
    }

    #[test]
    fn a_broken_field_is_refused_with_its_place() {
        for (text, place) in [
            ("{params.}", "byte 1"),
            ("out/{params.a..b}", "byte 5"),
            ("{params.a", "byte 1"),
            ("x{params.a{id}", "byte 2"),
        ] {
            let error = parse(&["program".into(), text.into()])
                .expect_err(text)
                .to_string();
            assert!(error.contains(place) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn neither_the_program_nor_a_script_may_come_from_a_job() {
        let refused = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            parse(&words).expect_err("it is refused").to_string()
        };
        assert!(refused(&["./{name}"]).contains("./{name}"));
        let said = refused(&["sh", "-c", "echo {params.file}"]);
        assert!(
            said.contains("{{params.file}}") && said.contains("script for sh"),
            "{said}"
        );
        for words in [
            ["sh", "-c", "echo {{}} ${id}", "{}"],
            ["grep", "-c", "{}", "file"],
        ] {
            assert!(parse(&words.map(OsString::from)).is_ok(), "{words:?}");
        }
    }
}
