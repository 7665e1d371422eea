//! Times and durations, as people write and read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, DateTime};
use jiff::fmt::friendly::{Designator, Spacing, SpanPrinter};
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, Zoned};
use jobq_client::Backoff;

/// Reads a duration such as `10m`, `1h 30m`, `1.5s`, `2 days` or `PT10M`. A day has 24 hours.
///
/// # Errors
/// It is none, or less than nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected one such as 500ms, 10m, 1h 30m or 2d";
    let span: Span = text
        .trim()
        .parse()
        .map_err(|_| format!("it is no duration; {expected}"))?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("months and years have no fixed length; {expected}"))?;
    Duration::try_from(duration).map_err(|_| format!("it is less than nothing; {expected}"))
}

/// As [`duration`], of one microsecond at least.
///
/// # Errors
/// As [`duration`], or it is nothing.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < Duration::from_micros(1) {
        return Err("it has to be longer than nothing".to_owned());
    }
    Ok(duration)
}

const NO_TIME: &str = "it is no time; expected one such as 2026-11-23T09:00:00Z, 2026-11-23T10:00:00+01:00, '2026-11-23 \
                       10:00 Europe/Berlin', or in local time '2026-11-23 10:00' and 'tomorrow 09:00'";

/// Reads a point in time, in microseconds since 1970: `2026-11-23T10:00:00+01:00`, `…Z`, `…[Europe/Berlin]`, or a
/// date with or without a time of day, followed by the name of a time zone or an offset, or in local time: `2026-11-23
/// 10:00 Europe/Berlin`, `2026-11-23 10:00 +01:00`, `2026-11-23`, `tomorrow 09:00`.
///
/// # Errors
/// It is none.
pub(crate) fn time(text: &str) -> Result<i64, String> {
    let text = text.trim();
    // A timestamp's parser passes over a zone, so this comes first.
    if let Some((_, zone)) = text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        return zoned(text, zone);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_microsecond());
    }
    let (text, zone) = match text.rsplit_once(' ') {
        Some((time, zone)) if zone.contains('/') || zone == "UTC" => {
            let zone = TimeZone::get(zone).map_err(|_| unknown_zone(zone))?;
            (time.trim_end(), zone)
        }
        Some((time, "Z")) => (time.trim_end(), TimeZone::UTC),
        Some((time, offset)) if offset.starts_with(['+', '-']) => {
            let zone = fixed(offset)
                .ok_or_else(|| format!("{offset:?} is no offset; expected one such as +01:00"))?;
            (time.trim_end(), zone)
        }
        Some((_, zone)) if zone.len() > 2 && zone.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            return Err(format!(
                "{zone} is ambiguous; give a zone such as Europe/Berlin, or an offset as in …T10:00:00+01:00"
            ));
        }
        _ => (text, system_zone()?),
    };
    let today = Timestamp::now().to_zoned(zone.clone()).date();
    let local = civil(text, today).ok_or(NO_TIME)?;
    let zoned = local.to_zoned(zone).map_err(|error| error.to_string())?;
    Ok(zoned.timestamp().as_microsecond())
}

/// A time with the name of a zone in brackets behind it, and maybe an offset before that.
fn zoned(text: &str, zone: &str) -> Result<i64, String> {
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Ok(zoned.timestamp().as_microsecond());
    }
    if text.parse::<Timestamp>().is_err() {
        return Err(NO_TIME.to_owned());
    }
    // It is a time, with an offset that tells when, so it is the zone that is at odds with it.
    Err(match TimeZone::get(zone) {
        Ok(_) => {
            format!("{zone} has another offset than the one that stands before it; leave out one of the two")
        }
        Err(_) => unknown_zone(zone),
    })
}

/// The zone of an offset such as `+01:00`, which jiff reads only behind a time.
fn fixed(offset: &str) -> Option<TimeZone> {
    let time = format!("1970-01-01T00:00{offset}");
    let offset = Pieces::parse(&time).ok()?.to_numeric_offset()?;
    Some(TimeZone::fixed(offset))
}

fn unknown_zone(zone: &str) -> String {
    format!("{zone:?} is no time zone that this system knows; expected one such as Europe/Berlin")
}

/// The zone of local time.
///
/// # Errors
/// The variable TZ names none.
fn system_zone() -> Result<TimeZone, String> {
    match (TimeZone::try_system(), std::env::var("TZ")) {
        (Err(_), Ok(name)) => Err(format!(
            "the variable TZ is {name:?}, which is no time zone that this system knows; expected one such as \
             Europe/Berlin"
        )),
        _ => Ok(TimeZone::system()),
    }
}

/// A date and a time of day, on whatever clock.
fn civil(text: &str, today: Date) -> Option<DateTime> {
    for (word, day) in [("today", Some(today)), ("tomorrow", today.tomorrow().ok())] {
        if let Some(rest) = text.strip_prefix(word) {
            return match rest.trim_start() {
                "" => Some(day?.at(0, 0, 0, 0)),
                time if rest.starts_with(' ') => Some(day?.to_datetime(time.parse().ok()?)),
                _ => None,
            };
        }
    }
    text.parse().ok()
}

/// Reads a time in the past: one as [`time`] reads, or how long ago it is, such as `2h`.
///
/// # Errors
/// It is neither.
pub(crate) fn past(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = duration(text) {
        let time = SystemTime::now().checked_sub(ago);
        return time.ok_or_else(|| "it is too long ago".to_owned());
    }
    let micros = time(text).map_err(|error| format!("{error}; or how long ago, such as 2h"))?;
    let since = Duration::from_micros(micros.unsigned_abs());
    let time = if micros < 0 {
        UNIX_EPOCH.checked_sub(since)
    } else {
        UNIX_EPOCH.checked_add(since)
    };
    time.ok_or_else(|| "it is too far away".to_owned())
}

/// Reads a backoff: `10s` for the same wait each time, `1s^4` for one that grows with that power of the attempt,
/// `1s^4,1h` for one that stops growing there.
///
/// # Errors
/// It is none.
pub(crate) fn backoff(text: &str) -> Result<Backoff, String> {
    let (curve, max) = match text.split_once(',') {
        Some((curve, max)) => (curve, Some(micros(max)?)),
        None => (text, None),
    };
    let (base, exponent) = match curve.split_once('^') {
        Some((base, exponent)) => (base, exponent.trim()),
        None => (curve, "0"),
    };
    let exponent = exponent
        .parse()
        .ok()
        .filter(|exponent| *exponent <= Backoff::MAX_EXPONENT)
        .ok_or_else(|| format!("{exponent:?} is no exponent from 0 to {}", Backoff::MAX_EXPONENT))?;
    let base = micros(base)?;
    Ok(Backoff {
        base,
        exponent,
        max: max.unwrap_or(Backoff::default().max).max(base),
    })
}

fn micros(text: &str) -> Result<u64, String> {
    Ok(u64::try_from(duration(text)?.as_micros()).unwrap_or(u64::MAX))
}

/// A time of the server, for programs: RFC 3339 in UTC.
pub(crate) fn rfc3339(micros: i64) -> String {
    match Timestamp::from_microsecond(micros) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => micros.to_string(),
    }
}

/// A time of the server, for people: local time, to the second.
pub(crate) fn local(micros: i64) -> String {
    match Timestamp::from_microsecond(micros) {
        Ok(time) => time
            .to_zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => micros.to_string(),
    }
}

/// A duration, for people: at most two units below the day, none below the microsecond.
pub(crate) fn length(duration: Duration) -> String {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let rounded = match micros {
        0..1_000 => micros,
        1_000..60_000_000 => micros / 1_000 * 1_000,
        _ => micros / 1_000_000 * 1_000_000,
    };
    let printer = SpanPrinter::new()
        .designator(Designator::Compact)
        .spacing(Spacing::BetweenUnits);
    printer.duration_to_string(&SignedDuration::from_micros(rounded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("PT10M"), Ok(Duration::from_secs(600)));
        for wrong in ["", "10", "ten minutes", "-5m", "1 month"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn times_carry_their_zone_or_are_local() {
        let nine = time("2026-11-23T09:00:00Z").expect("it is a time");
        assert_eq!(time("2026-11-23T10:00:00+01:00"), Ok(nine));
        assert_eq!(time("2026-11-23T10:00:00+01:00[Europe/Berlin]"), Ok(nine));
        let local = time("2026-11-23 10:00").expect("it is a local time");
        assert_eq!(time("2026-11-23T10:00:00"), Ok(local));
        assert!(time("2026-11-23").expect("it is a local day") < local);
        let zone = "2026-11-23 10:00 Europe/Berlin";
        assert_eq!(time(zone), Ok(nine));
        assert_eq!(time("2026-11-23 09:00 UTC"), Ok(nine));
        assert_eq!(time("2026-11-23 09:00 Z"), Ok(nine));
        assert_eq!(time("2026-11-23 10:00 +01:00"), Ok(nine));
        assert_eq!(time("2026-11-23 04:00 -05"), Ok(nine));
        assert_eq!(time("2026-11-23T10:00[Europe/Berlin]"), Ok(nine));
        assert!(time("tomorrow 09:00 +01:00").is_ok());
        let ambiguous = time("2026-11-23 09:00 EST").expect_err("there are several");
        assert!(ambiguous.contains("EST is ambiguous"), "{ambiguous}");
        let tomorrow = time("tomorrow").expect("it is a day");
        assert!(time("today").expect("it is a day") < tomorrow);
        assert!(time("tomorrow 09:00 Europe/Berlin").is_ok());
        assert!(tomorrow < time("tomorrow 23:59").expect("it is a time"));
        for wrong in [
            "",
            "tomorrow09:00",
            "tomorrow noon",
            "2026-13-01",
            "10:00",
            "2026-11-23 10:00 Mars/Base",
        ] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_offset_that_is_not_its_zones_is_refused() {
        for (text, says) in [
            (
                "2026-11-23T10:00:00+05:00[Europe/Berlin]",
                "Europe/Berlin has another offset",
            ),
            (
                "2026-07-23T10:00:00+01:00[Europe/Berlin]",
                "Europe/Berlin has another offset",
            ),
            (
                "2026-11-23T10:00:00+01:00[Mars/Base]",
                "\"Mars/Base\" is no time zone",
            ),
            ("soon[Europe/Berlin]", "it is no time"),
            ("2026-11-23 10:00 +99:00", "\"+99:00\" is no offset"),
        ] {
            let error = time(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_time_that_a_clock_skips_is_an_hour_later_and_one_that_it_shows_twice_the_first() {
        for (text, instant) in [
            ("2027-03-28 02:30 Europe/Berlin", "2027-03-28T03:30:00+02:00"),
            ("2027-03-28T02:30[Europe/Berlin]", "2027-03-28T03:30:00+02:00"),
            ("2026-10-25 02:30 Europe/Berlin", "2026-10-25T02:30:00+02:00"),
            (
                "2026-10-25 02:30:00+01:00[Europe/Berlin]",
                "2026-10-25T02:30:00+01:00",
            ),
        ] {
            let expected = time(instant).expect("it is a time");
            assert_eq!(time(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_past_is_a_time_or_so_long_ago() {
        let nine = past("2026-11-23T09:00:00Z").expect("it is a time");
        assert_eq!(nine, UNIX_EPOCH + Duration::from_secs(1_795_424_400));
        let before = SystemTime::now();
        let ago = past("2h").expect("it is a duration");
        assert!(ago + Duration::from_secs(7_200) >= before);
        assert!(past("1000000d").is_err() || past("1000000d").is_ok_and(|time| time < UNIX_EPOCH));
        assert!(past("soon").is_err());
    }

    #[test]
    fn a_backoff_is_a_wait_a_power_and_a_limit() {
        let constant = backoff("10s").expect("it is one");
        assert_eq!((constant.base, constant.exponent), (10_000_000, 0));
        let grows = backoff("1s^4,1h").expect("it is one");
        assert_eq!(
            (grows.base, grows.exponent, grows.max),
            (1_000_000, 4, 3_600_000_000)
        );
        for wrong in ["", "s", "1s^", "1s^11", "1s^-1", "1s,"] {
            assert!(backoff(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_are_short() {
        assert_eq!(length(Duration::from_micros(850)), "850µs");
        assert_eq!(length(Duration::from_micros(1_234_567)), "1s 234ms");
        assert_eq!(length(Duration::from_secs(3_725)), "1h 2m 5s");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
    }
}
