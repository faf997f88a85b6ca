//! The engine's times: RFC 3339 with up to nine digits of a second, in nanoseconds since 1970.

/// Reads `2026-11-26T18:51:41.596473528Z`, or with an offset such as `+02:00`. `None` if it is no such time.
pub(crate) fn nanos(text: &[u8]) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.iter().try_fold(0, |sum: i64, d| d.is_ascii_digit().then(|| sum * 10 + i64::from(d - b'0')))
    };
    let at = |index: usize, wanted: &[u8]| text.get(index).is_some_and(|byte| wanted.contains(byte));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let marks = at(4, b"-") && at(7, b"-") && at(10, b"T ") && at(13, b":") && at(16, b":");
    if !marks || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut fraction = 0;
    if let Some(digits) = rest.strip_prefix(b".") {
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let used = digits.get(..length.min(9))?;
        fraction = used.iter().fold(0, |sum: i64, digit| sum * 10 + i64::from(digit - b'0'));
        fraction *= 10_i64.pow(u32::try_from(9 - used.len()).ok()?);
        rest = digits.get(length..)?;
    }
    let offset = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) => {
            let two = |a: &u8, b: &u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            let seconds = two(h1, h2) * 3600 + two(m1, m2) * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years from March on, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_engine_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:01.5Z", 1_500_000_000),
            ("2026-11-26T18:51:41.596473528Z", 1_795_719_101_596_473_528),
            ("2026-11-26T20:51:41.596473528+02:00", 1_795_719_101_596_473_528),
            ("2024-02-29T12:00:00.000000001Z", 1_709_208_000_000_000_001),
        ] {
            assert_eq!(nanos(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in
            ["", "2026", "2026-13-01T00:00:00Z", "2026-11-26T18:51:41", "2026-11-26T18:51:41.5", "x026-11-26T18:51:41Z"]
        {
            assert_eq!(nanos(text.as_bytes()), None, "{text}");
        }
        // What the engine writes for "never".
        assert!(nanos(b"0001-01-01T00:00:00Z").is_none_or(|nanos| nanos < 0));
    }
}
