//! Until when a certificate is valid.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;

use super::der::{GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME, VERSION, expect, item};

/// Seconds of a day.
const DAY: i64 = 24 * 3_600;

/// When a certificate expires; none where that cannot be read.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (body, _) = expect(SEQUENCE, certificate)?;
    let rest = expect(VERSION, body).map_or(body, |(_, rest)| rest);
    let (_serial, rest) = expect(INTEGER, rest)?;
    let (_algorithm, rest) = expect(SEQUENCE, rest)?;
    let (_issuer, rest) = expect(SEQUENCE, rest)?;
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _begin, rest) = item(validity)?;
    let (kind, end, _) = item(rest)?;
    time(kind, end)
}

/// A time as certificates write it: with two digits of the year up to 2049, and with four from then on.
fn time(kind: u8, text: &[u8]) -> Option<SystemTime> {
    let text = text.strip_suffix(b"Z")?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (year, rest) = match (kind, text.len()) {
        (UTC_TIME, 12) => {
            let short = number(&text[..2]);
            (if short < 50 { 2_000 + short } else { 1_900 + short }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&text[..4]), &text[4..]),
        _ => return None,
    };
    let part = |place: usize| number(&rest[2 * place..2 * place + 2]);
    let (month, day) = (part(0), part(1));
    let (hour, minute, second) = (part(2), part(3), part(4));
    let is_time = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_time || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * DAY + (hour * 60 + minute) * 60 + second;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds {
        0.. => UNIX_EPOCH.checked_add(distance),
        _ => UNIX_EPOCH.checked_sub(distance),
    }
}

/// The number that some digits are.
fn number(digits: &[u8]) -> i64 {
    let add = |number: i64, digit: &u8| 10 * number + i64::from(digit - b'0');
    digits.iter().fold(0, add)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. The year begins in March, so that a leap day is its last;
/// 400 years are 146,097 days.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before_month = (153 * month + 2) / 5;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + before_month + day
        - 1
        - 719_468
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn seconds(time: SystemTime) -> u64 {
        time.duration_since(UNIX_EPOCH)
            .expect("it is after 1970")
            .as_secs()
    }

    #[test]
    fn a_certificate_says_when_it_expires_in_both_ways_of_writing_it() {
        for (year, expected) in [
            (2026, 1_795_305_600),
            (2049, 2_521_152_000),
            (2050, 2_552_688_000),
        ] {
            let mut params = CertificateParams::default();
            params.not_after = date_time_ymd(year, 11, 22);
            let key = KeyPair::generate().expect("the system is random");
            let certificate = params.self_signed(&key).expect("it is well-formed");
            assert_eq!(of(certificate.der()).map(seconds), Some(expected), "{year}");
        }
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        for (year, month, day, expected) in [
            (1970, 1, 1, 0),
            (1969, 12, 31, -1),
            (2000, 2, 29, 11_016),
            (2000, 3, 1, 11_017),
            (2100, 3, 1, 47_541),
        ] {
            assert_eq!(days(year, month, day), expected, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn a_time_is_read_to_the_second_and_what_is_none_is_not() {
        let at = |kind, text: &str| time(kind, text.as_bytes()).map(seconds);
        assert_eq!(at(UTC_TIME, "261122010203Z"), Some(1_795_305_600 + 3_723));
        assert_eq!(at(GENERALIZED_TIME, "20261122000000Z"), Some(1_795_305_600));
        for bad in [
            "",
            "Z",
            "261122010203",
            "2611220102Z",
            "26112201020xZ",
            "261322010203Z",
            "261122240000Z",
        ] {
            assert_eq!(at(UTC_TIME, bad), None, "{bad}");
        }
        assert_eq!(at(GENERALIZED_TIME, "261122010203Z"), None);
    }

    #[test]
    fn bytes_that_are_no_certificate_expire_never() {
        for bytes in [&[][..], &[SEQUENCE, 2, SEQUENCE, 0], &[0; 40]] {
            assert_eq!(of(&CertificateDer::from(bytes)), None, "{bytes:?}");
        }
    }
}
