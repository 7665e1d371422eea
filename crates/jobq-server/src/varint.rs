//! Numbers of few bytes where they are small, for what is packed.

/// Small numbers for small distances in both directions, as in Protocol Buffers.
pub(crate) fn zigzag(distance: u64) -> u64 {
    (distance << 1) ^ (distance.cast_signed() >> 63).cast_unsigned()
}

/// The distance that [`zigzag`] made this number of.
pub(crate) fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

/// Seven bits a byte, the lowest first; all bytes but the last have their highest bit set (LEB128).
pub(crate) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front; none where there is no whole one, or one of more than 64 bits.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let byte = *bytes.split_off_first()?;
        let bits = u64::from(byte & 0x7f);
        if shift > 63 || bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte <= 0x7f {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_as_they_went_in_and_in_as_few_bytes_as_they_need() {
        let numbers = [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::MAX / 2,
            u64::MAX - 1,
            u64::MAX,
        ];
        let lengths = [1, 1, 1, 2, 2, 3, 9, 10, 10];
        let mut bytes = Vec::new();
        for (number, length) in numbers.into_iter().zip(lengths) {
            let before = bytes.len();
            put_number(&mut bytes, number);
            assert_eq!(bytes.len() - before, length, "{number}");
            assert_eq!(unzigzag(zigzag(number)), number);
        }
        let mut rest = &*bytes;
        for number in numbers {
            assert_eq!(take_number(&mut rest), Some(number));
        }
        assert_eq!(take_number(&mut rest), None);
    }

    #[test]
    fn what_is_no_number_of_64_bits_is_none() {
        for bytes in [
            &[0x80][..],
            &[0xff; 9],
            &[0xff; 11],
            &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
        ] {
            assert_eq!(take_number(&mut &*bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn near_numbers_are_small_in_both_directions() {
        assert_eq!([0, 1, 2].map(zigzag), [0, 2, 4]);
        assert_eq!(zigzag(1_u64.wrapping_neg()), 1);
    }
}
