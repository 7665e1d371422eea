//! NATS JetStream: a stream with the retention of a work queue, in files, and a pull consumer.
//!
//! By <https://docs.nats.io/reference/reference-protocols/nats-protocol> and the JetStream API over it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::contest::{EACH, Peer, chunks, payload};
use crate::pipe::{Chunk, Pipe, number, unexpected};
use crate::server::Server;

/// Most publishes without an acknowledgement.
const WINDOW: u64 = 4 * EACH;

/// Most messages that are asked for and not delivered.
const PULLED: u64 = 4 * EACH;

/// Most messages that are delivered and not acknowledged, as the consumer is told.
const MAX_ACK_PENDING: u64 = 100_000;

/// How often it is looked whether the last acknowledgements have been taken in.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Looks until it is given up: a minute.
const MAX_LOOKS: u32 = 60_000;

// Subjects on which this program hears acknowledgements, answers and messages, and the numbers of its subscriptions.
const ACKS: &str = "acks";
const ANSWERS: &str = "answers";
const MESSAGES: &str = "messages";
const ACKS_SID: &[u8] = b"1";
const ANSWERS_SID: &[u8] = b"2";
const MESSAGES_SID: &[u8] = b"3";

pub(crate) struct Nats {
    pipe: Pipe,
}

/// Starts it; with `sync_always`, every write is synced before it is acknowledged.
pub(crate) fn start(program: &Path, dir: &Path, sync_always: bool) -> anyhow::Result<Server> {
    Server::start(program, dir, |port, dir, command| {
        let file = dir.join("nats.conf");
        std::fs::write(&file, configuration(port, dir, sync_always))
            .context("failed to write a configuration")?;
        command.arg("-c").arg(file);
        Ok(())
    })
}

/// Whether this version can sync every write, which those before 2.10 cannot.
pub(crate) fn can_sync_always(program: &Path) -> bool {
    let check = || -> anyhow::Result<bool> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("nats.conf");
        std::fs::write(&file, configuration(4222, dir.path(), true))?;
        let status = Command::new(program)
            .arg("-t")
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        Ok(status.success())
    };
    check().unwrap_or(false)
}

fn configuration(port: u16, dir: &Path, sync_always: bool) -> String {
    let sync = if sync_always { "sync_interval: always" } else { "" };
    format!(
        "listen: 127.0.0.1:{port}\njetstream {{\n  store_dir: {:?}\n  {sync}\n}}\n",
        dir.join("store")
    )
}

/// What came.
enum Heard {
    /// A publish was acknowledged.
    Ack,
    /// A request was answered.
    Answer(Value),
    /// A job; to be acknowledged to this subject.
    Message(Vec<u8>),
    /// Something that has nothing to say.
    Nothing,
}

impl Nats {
    /// Says hello and makes the stream and its consumer.
    pub(crate) fn new(pipe: Pipe) -> anyhow::Result<Self> {
        let mut nats = Self { pipe };
        let info = nats.pipe.line()?;
        if !info.starts_with(b"INFO ") {
            return Err(unexpected(info));
        }
        let hello = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;
        let subscriptions = format!("SUB {ACKS} 1\r\nSUB {ANSWERS} 2\r\nSUB {MESSAGES} 3\r\n");
        nats.pipe
            .write(format!("{hello}\r\n{subscriptions}PING\r\n").as_bytes())?;
        while nats.pipe.line()? != b"PONG" {}
        nats.ask(
            "$JS.API.STREAM.CREATE.jobs",
            &json!({"name": "jobs", "subjects": ["q"], "retention": "workqueue", "storage": "file",
                    "num_replicas": 1}),
        )?;
        nats.ask(
            "$JS.API.CONSUMER.DURABLE.CREATE.jobs.worker",
            &json!({"stream_name": "jobs", "config": {"durable_name": "worker", "ack_policy": "explicit",
                    "deliver_policy": "all", "max_ack_pending": MAX_ACK_PENDING}}),
        )?;
        Ok(nats)
    }

    /// Asks the JetStream API, and waits for the answer.
    fn ask(&mut self, subject: &str, question: &Value) -> anyhow::Result<Value> {
        let mut bytes = Vec::new();
        publish(&mut bytes, subject, ANSWERS, question.to_string().as_bytes());
        self.pipe.write(&bytes)?;
        loop {
            if let Heard::Answer(answer) = hear(&mut self.pipe)? {
                if let Some(error) = answer.get("error") {
                    bail!("{subject} is answered {error}");
                }
                return Ok(answer);
            }
        }
    }
}

impl Peer for Nats {
    fn submissions(&self, jobs: u64) -> Vec<Chunk> {
        chunks(jobs, |n, bytes| publish(bytes, "q", ACKS, &payload(n)))
    }

    fn submit(&mut self, chunks: &[Chunk]) -> anyhow::Result<()> {
        self.pipe.pipeline(chunks, WINDOW, |pipe| {
            loop {
                if let Heard::Ack = hear(pipe)? {
                    return Ok(());
                }
            }
        })
    }

    fn drain(&mut self, jobs: u64) -> anyhow::Result<()> {
        let mut pull = Vec::new();
        let mut asked = 0;
        let mut ask = |bytes: &mut Vec<u8>| {
            let batch = EACH.min(jobs - asked);
            if batch > 0 {
                let question = json!({ "batch": batch }).to_string();
                publish(
                    bytes,
                    "$JS.API.CONSUMER.MSG.NEXT.jobs.worker",
                    MESSAGES,
                    question.as_bytes(),
                );
                asked += batch;
            }
        };
        for _ in 0..PULLED / EACH {
            ask(&mut pull);
        }
        let mut done = 0;
        while done < jobs {
            // The acknowledgements of all messages that are here go out in one write.
            if self.pipe.is_empty() && !pull.is_empty() {
                self.pipe.write(&pull)?;
                pull.clear();
            }
            if let Heard::Message(reply) = hear(&mut self.pipe)? {
                pull.extend(b"PUB ");
                pull.extend(reply);
                // Nothing is as good as +ACK.
                pull.extend(b" 0\r\n\r\n");
                done += 1;
                if done % EACH == 0 {
                    ask(&mut pull);
                }
            }
        }
        self.pipe.write(&pull)?;
        // Acknowledgements are not answered; when all are taken in the stream is empty.
        for _ in 0..MAX_LOOKS {
            if self.held()? == 0 {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("the stream is not empty after all its messages were acknowledged");
    }

    fn held(&mut self) -> anyhow::Result<u64> {
        let info = self.ask("$JS.API.STREAM.INFO.jobs", &json!({}))?;
        let messages = info.pointer("/state/messages").and_then(Value::as_u64);
        messages.with_context(|| format!("the stream's state has no messages: {info}"))
    }
}

fn publish(bytes: &mut Vec<u8>, subject: &str, reply: &str, content: &[u8]) {
    bytes.extend(format!("PUB {subject} {reply} {}\r\n", content.len()).bytes());
    bytes.extend(content);
    bytes.extend(b"\r\n");
}

/// Takes one thing that the server says.
fn hear(pipe: &mut Pipe) -> anyhow::Result<Heard> {
    let line = pipe.line()?;
    // Where there is no reply subject some servers leave two spaces.
    let words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let words: Vec<&[u8]> = words.collect();
    let (sid, reply, length) = match words[..] {
        [b"MSG", _, sid, length] => (sid, None, number(length)?),
        [b"MSG", _, sid, reply, length] => (sid, Some(reply.to_vec()), number(length)?),
        [b"PING"] => {
            pipe.write(b"PONG\r\n")?;
            return Ok(Heard::Nothing);
        }
        [b"PONG"] => return Ok(Heard::Nothing),
        [b"INFO", ..] => return Ok(Heard::Nothing),
        // With a status: a request of messages that came to nothing.
        _ => return Err(unexpected(line)),
    };
    let (is_ack, is_answer, is_message) = (sid == ACKS_SID, sid == ANSWERS_SID, sid == MESSAGES_SID);
    let content = pipe.take(length as usize + b"\r\n".len())?;
    match reply {
        Some(reply) if is_message => Ok(Heard::Message(reply)),
        None if is_answer => Ok(Heard::Answer(
            serde_json::from_slice(content).map_err(|_| unexpected(content))?,
        )),
        // {"stream":"jobs","seq":1}, or an error.
        None if is_ack && content.starts_with(br#"{"stream""#) => Ok(Heard::Ack),
        _ => Err(unexpected(content)),
    }
}
