//! Sizes as people write them, `10m` or `1.5 GiB`, by the rules of Docker's `go-units`.

/// What a thousand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// `k` is 1000.
    Decimal,
    /// `k` is 1024.
    Binary,
}

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number, or one below zero.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// The number is not one.
    #[error("strconv.ParseFloat: parsing {0:?}: invalid syntax")]
    Number(String),
    /// The unit is not one.
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
}

/// The bytes that `text` says.
pub(super) fn human_size(text: &str, base: Base) -> Result<u64, SizeError> {
    let numeral = |c: char| c.is_ascii_digit() || c == '.' || c == ' ';
    let last = text
        .rfind(numeral)
        .ok_or_else(|| SizeError::Size(text.into()))?;
    let (number, suffix) = (&text[..=last], &text[last + 1..]);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let size: f64 = match number.parse() {
        Ok(size) if number.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => size,
        Ok(_) | Err(_) => return Err(SizeError::Number(number.into())),
    };
    if size < 0.0 {
        return Err(SizeError::Size(text.into()));
    }
    let suffix = suffix.to_lowercase();
    let bad = || SizeError::Suffix(suffix.clone());
    let power = match suffix.as_str() {
        "" | "b" => 0,
        unit => {
            let (first, rest) = unit.split_at_checked(1).ok_or_else(bad)?;
            if !matches!(rest, "" | "b" | "ib") {
                return Err(bad());
            }
            1 + "kmgtp".find(first).ok_or_else(bad)?
        }
    };
    let thousand: f64 = match base {
        Base::Decimal => 1000.0,
        Base::Binary => 1024.0,
    };
    Ok((size * thousand.powi(power as i32)) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_go_units_does() {
        for (text, decimal, binary) in [
            ("32", 32, 32),
            ("32b", 32, 32),
            ("32k", 32_000, 32_768),
            ("32 KB", 32_000, 32_768),
            ("1.5Mib", 1_500_000, 1_572_864),
            ("2g", 2_000_000_000, 2_147_483_648),
            (".5k", 500, 512),
        ] {
            assert_eq!(human_size(text, Base::Decimal), Ok(decimal), "{text}");
            assert_eq!(human_size(text, Base::Binary), Ok(binary), "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for (text, words) in [
            ("", "invalid size: ''"),
            ("big", "invalid size: 'big'"),
            ("-1k", "invalid size: '-1k'"),
            (
                "1.2.3",
                "strconv.ParseFloat: parsing \"1.2.3\": invalid syntax",
            ),
            (
                "hello 1",
                "strconv.ParseFloat: parsing \"hello 1\": invalid syntax",
            ),
            ("1x", "invalid suffix: 'x'"),
            ("1kk", "invalid suffix: 'kk'"),
            ("1bb", "invalid suffix: 'bb'"),
            ("1 ä", "invalid suffix: 'ä'"),
        ] {
            let error = human_size(text, Base::Decimal).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = human_size(&text, Base::Decimal);
        }
    }
}
