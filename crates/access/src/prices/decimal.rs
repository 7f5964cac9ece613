//! Decimal text to scaled integers and back, exactly.
//!
//! Price lists write prices as people do (`2.50`) or as Python prints floats (`1.5e-07`). Both are decimals, so
//! both become integers without a float in between.

use super::PriceError;

/// The longest number that is read.
const LONGEST: usize = 64;
/// The largest scaled value: what an `i64` holds, rounded down to a figure that can be said.
const LARGEST: i64 = 9_000_000_000_000_000_000;

/// What is done with digits finer than the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finer {
    /// Refused: somebody wrote them by hand and means them.
    Refuse,
    /// Rounded half up: another program's float, or the result of a division.
    Round,
}

/// `text` × 10^`scale` as an integer that is not negative.
pub(super) fn parse(text: &str, scale: i32, finer: Finer) -> Result<i64, PriceError> {
    let (digits, power) = split(text)?;
    scaled(digits, power + scale, finer)
}

/// `text` × 10^`scale` ÷ `divisor`, rounded half up.
pub(super) fn parse_divided(text: &str, scale: i32, divisor: i64) -> Result<i64, PriceError> {
    let (digits, power) = split(text)?;
    // Six more digits before the division keep the rounding of it from being rounded again visibly.
    let wide = scaled_wide(digits, power + scale + 6, Finer::Round)?;
    let divisor = i128::from(divisor) * 1_000_000;
    fit((wide + divisor / 2) / divisor)
}

/// Digits as an integer, and the power of ten to multiply them with.
fn split(text: &str) -> Result<(i128, i32), PriceError> {
    let text = text.trim();
    if text.len() > LONGEST {
        return Err(PriceError::Malformed);
    }
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(PriceError::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    let mut digits: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let next = digits.checked_mul(10).and_then(|wide| wide.checked_add(i128::from(digit - b'0')));
        digits = next.ok_or(PriceError::TooLarge)?;
    }
    if negative && digits != 0 {
        return Err(PriceError::Negative);
    }
    let length = i32::try_from(fraction.len()).map_err(|_| PriceError::Malformed)?;
    Ok((digits, exponent - length))
}

fn exponent_of(text: &str) -> Result<i32, PriceError> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let exponent: i32 = text.parse().map_err(|_| PriceError::Malformed)?;
    // Far outside of what any scale brings back, and small enough to calculate with.
    if exponent.abs() > 200 { Err(PriceError::Malformed) } else { Ok(exponent) }
}

fn scaled(digits: i128, power: i32, finer: Finer) -> Result<i64, PriceError> {
    fit(scaled_wide(digits, power, finer)?)
}

fn scaled_wide(digits: i128, power: i32, finer: Finer) -> Result<i128, PriceError> {
    if digits == 0 {
        return Ok(0);
    }
    let ten = |power: u32| 10_i128.checked_pow(power);
    if let Ok(power) = u32::try_from(power) {
        return ten(power).and_then(|factor| digits.checked_mul(factor)).ok_or(PriceError::TooLarge);
    }
    let Some(divisor) = ten(power.unsigned_abs()) else {
        // Fewer digits than the divisor has: nothing is left of it.
        return if finer == Finer::Round { Ok(0) } else { Err(PriceError::TooFine) };
    };
    let (quotient, rest) = (digits / divisor, digits % divisor);
    match finer {
        Finer::Refuse if rest != 0 => Err(PriceError::TooFine),
        _ => Ok(quotient + i128::from(rest >= divisor - rest)),
    }
}

fn fit(wide: i128) -> Result<i64, PriceError> {
    match i64::try_from(wide) {
        Ok(value) if value <= LARGEST => Ok(value),
        _ => Err(PriceError::TooLarge),
    }
}

/// `value` ÷ 10^`scale` as the shortest decimal without exponent.
pub(super) fn text(value: i64, scale: u32) -> String {
    let one = 10_u64.pow(scale);
    let value = value.unsigned_abs();
    let (whole, fraction) = (value / one, value % one);
    if fraction == 0 {
        return whole.to_string();
    }
    let fraction = format!("{fraction:0width$}", width = scale as usize);
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_decimals_and_exponents_exactly() {
        for (text, scale, value) in [
            ("2.00", 9, 2_000_000_000),
            ("0", 9, 0),
            ("-0", 9, 0),
            ("1.5e-07", 15, 150_000_000),
            ("3E-6", 15, 3_000_000_000),
            ("2.5e+1", 9, 25_000_000_000),
            ("8.33333333333e-05", 16, 833_333_333_333),
            ("0e-200", 9, 0),
            ("9000000000", 9, LARGEST),
        ] {
            assert_eq!(parse(text, scale, Finer::Refuse), Ok(value), "{text}");
        }
    }

    #[test]
    fn rounds_half_up_only_where_told_to() {
        assert_eq!(parse("3.0000000000000004e-07", 15, Finer::Round), Ok(300_000_000));
        assert_eq!(parse("0.0000000005", 9, Finer::Round), Ok(1));
        assert_eq!(parse("0.00000000049", 9, Finer::Round), Ok(0));
        assert_eq!(parse("1e-60", 15, Finer::Round), Ok(0));
        assert_eq!(parse("0.0000000001", 9, Finer::Refuse), Err(PriceError::TooFine));
        assert_eq!(parse("1e-60", 15, Finer::Refuse), Err(PriceError::TooFine));
        assert_eq!(parse_divided("0.006", 15, 60), Ok(100_000_000_000));
        assert_eq!(parse_divided("0.01", 15, 60), Ok(166_666_666_667));
    }

    #[test]
    fn refuses_what_is_no_price() {
        for bad in [
            "", "-", ".5", "e5", "NaN", "nan", "inf", "Infinity", "1,5", "$1", "1e", "1e999", "0x10", "1.2.3",
        ] {
            assert_eq!(parse(bad, 9, Finer::Refuse), Err(PriceError::Malformed), "{bad}");
        }
        assert_eq!(parse(&"1".repeat(65), 9, Finer::Refuse), Err(PriceError::Malformed));
        assert_eq!(parse("-0.01", 9, Finer::Round), Err(PriceError::Negative));
        for large in ["9000000000.1", "1e30", "99999999999999999999999999999999999999999999"] {
            assert_eq!(parse(large, 9, Finer::Refuse), Err(PriceError::TooLarge), "{large}");
        }
    }

    #[test]
    fn writes_the_shortest_decimal() {
        for (value, scale, expected) in
            [(2_500_000_000, 9, "2.5"), (0, 9, "0"), (1, 15, "0.000000000000001"), (8_000_000_000, 9, "8")]
        {
            assert_eq!(text(value, scale), expected);
        }
    }
}
