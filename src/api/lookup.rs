//! Finds the object that a user means: by full ID, then by name, then by the only ID that begins so.
//!
//! Pure. The order and the words are Docker's, for nodes and for every kind that comes after them.

use super::backend::Refusal;

/// Why no object was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupError {
    /// Nothing fits.
    #[error("{kind} {input} not found")]
    NotFound {
        /// `node`, `service`, …
        kind: &'static str,
        /// What the user gave.
        input: String,
    },
    /// More than one fits.
    #[error("{kind} {input} is ambiguous ({matches} matches found)")]
    Ambiguous {
        /// `node`, `service`, …
        kind: &'static str,
        /// What the user gave.
        input: String,
        /// How many.
        matches: usize,
    },
}

impl From<LookupError> for Refusal {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::NotFound { .. } => Self::not_found(error.to_string()),
            LookupError::Ambiguous { .. } => Self::invalid(error.to_string()),
        }
    }
}

/// The one of `objects` that `input` means. `id` and `names` say what an object is called.
pub(super) fn find<'a, T, N>(
    kind: &'static str,
    input: &str,
    objects: impl Iterator<Item = &'a T>,
    id: impl Fn(&T) -> String,
    names: impl Fn(&'a T) -> N,
) -> Result<&'a T, LookupError>
where
    N: IntoIterator<Item = &'a str>,
{
    let not_found = || LookupError::NotFound {
        kind,
        input: input.into(),
    };
    if input.is_empty() {
        return Err(not_found());
    }
    let (mut by_name, mut by_id) = (Vec::new(), Vec::new());
    for object in objects {
        let id = id(object);
        if id == input {
            return Ok(object);
        }
        if names(object).into_iter().any(|name| name == input) {
            by_name.push(object);
        }
        if id.starts_with(input) {
            by_id.push(object);
        }
    }
    let found = if by_name.is_empty() { by_id } else { by_name };
    match found.as_slice() {
        [] => Err(not_found()),
        [one] => Ok(one),
        many => Err(LookupError::Ambiguous {
            kind,
            input: input.into(),
            matches: many.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pair = (String, String);

    fn pairs(list: &[(&str, &str)]) -> Vec<Pair> {
        list.iter()
            .map(|(id, name)| ((*id).into(), (*name).into()))
            .collect()
    }

    fn find_in<'a>(list: &'a [Pair], input: &str) -> Result<&'a str, LookupError> {
        find(
            "node",
            input,
            list.iter(),
            |pair| pair.0.clone(),
            |pair| [pair.1.as_str()],
        )
        .map(|pair| pair.0.as_str())
    }

    #[test]
    fn id_beats_name_beats_prefix() {
        let list = pairs(&[
            ("abc", "one"),
            ("abd", "abc"),
            ("xyz", "ab"),
            ("xyw", "two"),
        ]);
        assert_eq!(find_in(&list, "abc"), Ok("abc"), "a full ID");
        assert_eq!(find_in(&list, "two"), Ok("xyw"), "a name");
        assert_eq!(
            find_in(&list, "ab"),
            Ok("xyz"),
            "a name before two prefixes"
        );
        assert_eq!(find_in(&list, "xyz"), Ok("xyz"));
        assert_eq!(find_in(&list, "abd"), Ok("abd"));
    }

    #[test]
    fn what_is_not_one_is_an_error_in_dockers_words() {
        let list = pairs(&[("abc", "same"), ("abd", "same")]);
        for (input, words) in [
            ("ab", "node ab is ambiguous (2 matches found)"),
            ("same", "node same is ambiguous (2 matches found)"),
            ("sam", "node sam not found"),
            ("", "node  not found"),
        ] {
            assert_eq!(find_in(&list, input).unwrap_err().to_string(), words);
        }
    }

    proptest! {
        #[test]
        fn a_full_id_always_finds_its_object(
            list in prop::collection::btree_map("[a-c]{1,4}", "[a-c]{0,4}", 1..12),
            input in "[a-c]{0,5}",
        ) {
            let list: Vec<Pair> = list.into_iter().collect();
            for (id, _) in &list {
                prop_assert_eq!(find_in(&list, id), Ok(id.as_str()));
            }
            if let Ok(found) = find_in(&list, &input) {
                let pair = list.iter().find(|pair| pair.0 == found).unwrap();
                prop_assert!(pair.0.starts_with(&input) || pair.1 == input);
            }
        }
    }
}
