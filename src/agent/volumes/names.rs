//! What a volume may be called: a name that is one directory's name everywhere, in Docker's words where it is not.

/// Longest name of a directory.
const MAX_BYTES: usize = 255;

/// What is wrong with `name`, if anything.
pub(super) fn check(name: &str) -> Result<(), String> {
    if name.len() == 1 {
        return Err(
            "volume name is too short, names should be at least two alphanumeric characters".into(),
        );
    }
    let first = |c: char| c.is_ascii_alphanumeric();
    let fits = |c: char| first(c) || matches!(c, '_' | '.' | '-');
    if !name.starts_with(first) || !name.chars().all(fits) {
        return Err(format!(
            "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        ));
    }
    if name.len() > MAX_BYTES {
        return Err(format!("the name is longer than {MAX_BYTES} characters"));
    }
    Ok(())
}

/// A name for a volume that was given none: 64 hexadecimal digits.
pub(super) fn random() -> String {
    let bytes: [u8; 32] = rand::random();
    crate::model::ContainerId::from_bytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_directories_names() {
        for good in ["data", "a1", "my_app.db-2", &random(), &"x".repeat(255)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a",
            "../x",
            "a/b",
            ".hidden",
            "-x",
            "a b",
            "ä1",
            "..",
            &"x".repeat(256),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
