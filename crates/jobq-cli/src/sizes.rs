//! Sizes in bytes, as people write and read them.

/// The units, and how many bytes each is. Those with an `i`, and single letters, count by 1024.
const UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
];

/// Reads a size such as `256MB`, `64MiB`, `1G` or `4096`, in bytes. `M` alone is `MiB`.
///
/// # Errors
/// It is none, or more than a number of bytes can be.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let expected = || "it is no size; expected one such as 256MB, 64MiB, 1G or 4096".to_owned();
    if number.is_empty() {
        return Err(expected());
    }
    let bytes = match unit.as_str() {
        "" => 1,
        unit => UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, bytes)| *bytes)
            .ok_or_else(expected)?,
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(bytes))
        .ok_or_else(|| "it is larger than any disk".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("256MB", 256_000_000),
            ("256 mb", 256_000_000),
            ("64MiB", 64 << 20),
            ("64M", 64 << 20),
            ("1G", 1 << 30),
            ("10b", 10),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MB",
            "-1",
            "1.5GB",
            "10 parsecs",
            "18446744073709551616",
            "99999999T",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
