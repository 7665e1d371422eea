//! From the wire to checked jobs and back.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::Submission;
use jobq_proto::{Backoff, ErrorCode, JobName, Limits, NewJob, Priority, StartAt, Username};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

/// The definition in words, written without thought for speed or constant evaluation.
fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn start() -> impl Strategy<Value = StartAt> {
    let longest = u64::try_from(NewJob::MAX_DURATION.as_micros()).expect("a year in microseconds fits");
    prop_oneof![
        Just(StartAt::Arrival),
        NewJob::RUN_AT.prop_map(StartAt::Time),
        (0..=longest).prop_map(|delay| StartAt::After(Duration::from_micros(delay))),
    ]
}

fn backoff() -> impl Strategy<Value = Backoff> {
    (
        0..=Backoff::MAX_WAIT,
        0..=Backoff::MAX_EXPONENT,
        0..=Backoff::MAX_WAIT,
    )
        .prop_map(|(base, exponent, max)| Backoff { base, exponent, max })
}

prop_compose! {
    fn new_job()(
        uuid in any::<u128>(),
        name in "[A-Za-z0-9_.-]{1,128}",
        params in proptest::collection::vec(any::<u8>(), 0..200),
        username in option::of("[^\\p{Cc}]{1,32}"),
        priority in select(Priority::ALL.to_vec()),
        start in start(),
        max_attempts in option::of(1..=NewJob::MAX_ATTEMPTS),
        timeout in option::of(1..=365 * 24 * 3600 * 1_000_000u64),
        backoff in option::of(backoff()),
    ) -> NewJob {
        NewJob {
            uuid: Uuid::from_u128(uuid),
            name: name.parse().expect("the pattern is that of names"),
            params: Bytes::from(params),
            username: username.map(|name| name.parse::<Username>().expect("the pattern is that of usernames")),
            priority,
            start,
            max_attempts: max_attempts.and_then(NonZeroU32::new),
            timeout: timeout.map(Duration::from_micros),
            backoff,
        }
    }
}

proptest! {
    #[test]
    fn a_checked_job_survives_the_wire(job in new_job()) {
        let wire = Submission::from(job.clone());
        prop_assert_eq!(NewJob::check(wire, &Limits::default()), Ok(job));
    }

    #[test]
    fn names_are_valid_as_the_words_say(name in prop_oneof![
        "[A-Za-z0-9_.-]{0,130}",
        "[ -~]{0,6}",
        ".{0,6}",
    ]) {
        prop_assert_eq!(JobName::is_valid(&name), is_name(&name));
        prop_assert_eq!(name.parse::<JobName>().is_ok(), is_name(&name));
    }
}

#[test]
fn names_are_valid_up_to_their_greatest_length() {
    for (len, valid) in [(0, false), (1, true), (128, true), (129, false)] {
        assert_eq!(JobName::is_valid(&"a".repeat(len)), valid, "{len} bytes");
    }
}

#[test]
fn every_single_byte_is_a_valid_name_or_not_as_the_words_say() {
    for byte in 0..=127u8 {
        let name = char::from(byte).to_string();
        assert_eq!(JobName::is_valid(&name), is_name(&name), "{name:?}");
    }
}

fn submission() -> Submission {
    Submission::new(Uuid::from_u128(1), "ping")
}

#[test]
fn absent_fields_have_the_documented_defaults() {
    let job = NewJob::check(submission(), &Limits::default()).expect("everything in it is within range");
    assert_eq!(job.params, NewJob::NO_PARAMS, "the item null");
    assert_eq!(job.priority, Priority::Normal);
    assert_eq!(job.start, StartAt::Arrival);
    assert_eq!((job.max_attempts, job.timeout, job.backoff), (None, None, None));
}

#[test]
fn each_field_out_of_range_has_its_own_code() {
    let year = 365 * 24 * 3600 * 1_000_000u64;
    let bad: Vec<(ErrorCode, Submission)> = vec![
        (
            ErrorCode::BadName,
            Submission {
                name: "a b".to_owned(),
                ..submission()
            },
        ),
        (
            ErrorCode::BadUsername,
            Submission {
                username: Some(String::new()),
                ..submission()
            },
        ),
        (
            ErrorCode::BadUsername,
            Submission {
                username: Some("a\nb".to_owned()),
                ..submission()
            },
        ),
        (
            ErrorCode::BadPriority,
            Submission {
                priority: Some("urgent".to_owned()),
                ..submission()
            },
        ),
        (
            ErrorCode::BadTime,
            Submission {
                run_at: Some(1),
                delay: Some(1),
                ..submission()
            },
        ),
        (
            ErrorCode::BadTime,
            Submission {
                run_at: Some(-1),
                ..submission()
            },
        ),
        (
            ErrorCode::BadTime,
            Submission {
                run_at: Some(i64::MAX),
                ..submission()
            },
        ),
        (
            ErrorCode::BadTime,
            Submission {
                delay: Some(year + 1),
                ..submission()
            },
        ),
        (
            ErrorCode::BadRetryPolicy,
            Submission {
                max_attempts: Some(0),
                ..submission()
            },
        ),
        (
            ErrorCode::BadRetryPolicy,
            Submission {
                max_attempts: Some(NewJob::MAX_ATTEMPTS + 1),
                ..submission()
            },
        ),
        (
            ErrorCode::BadRetryPolicy,
            Submission {
                timeout: Some(0),
                ..submission()
            },
        ),
        (
            ErrorCode::BadRetryPolicy,
            Submission {
                timeout: Some(year + 1),
                ..submission()
            },
        ),
        (
            ErrorCode::BadRetryPolicy,
            Submission {
                backoff: Some(Backoff {
                    exponent: 11,
                    ..Backoff::default()
                }),
                ..submission()
            },
        ),
        (
            ErrorCode::ParamsTooLarge,
            Submission {
                params: Some(Bytes::from(vec![0; 1025])),
                ..submission()
            },
        ),
    ];
    for (code, wire) in bad {
        let error = NewJob::check(wire.clone(), &Limits::with_payload(1024))
            .expect_err(&format!("{wire:?} is out of range"));
        assert_eq!(error.code, code, "{error}");
        assert!(
            !code.may_repeat(),
            "{code}: the same job is as wrong the next time"
        );
    }
}
