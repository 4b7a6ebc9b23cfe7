//! Names of containers: which can be one, and made-up ones.

const FIRST: [&str; 32] = [
    "agile", "amber", "brave", "bright", "calm", "clever", "cosy", "crisp", "eager", "fair",
    "fond", "gentle", "glad", "golden", "happy", "jolly", "keen", "kind", "lively", "lucid",
    "merry", "mild", "neat", "noble", "proud", "quick", "quiet", "ready", "sharp", "steady",
    "vivid", "warm",
];

const SECOND: [&str; 32] = [
    "badger", "beaver", "bison", "crane", "dolphin", "eagle", "falcon", "ferret", "finch", "fox",
    "gecko", "heron", "ibex", "jay", "kestrel", "lark", "lynx", "marten", "newt", "ocelot",
    "otter", "owl", "panda", "puffin", "raven", "robin", "seal", "stoat", "swift", "tern", "wolf",
    "wren",
];

/// A name that is likely to be nobody's; after some attempts with a number.
pub(super) fn made_up(attempt: usize) -> String {
    let [first, second] = rand::random::<[u8; 2]>().map(usize::from);
    let (first, second) = (FIRST[first % FIRST.len()], SECOND[second % SECOND.len()]);
    match attempt {
        0..3 => format!("{first}_{second}"),
        _ => format!("{first}_{second}{}", rand::random::<u32>() % 1_000_000),
    }
}

/// Whether a container can be called so.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_docker() {
        for good in ["web", "a1", "1.b-c_d"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a", ".a", "-a", "a/b", "a b", "ä1"] {
            assert!(!is_name(bad), "{bad}");
        }
        for attempt in 0..5 {
            assert!(is_name(&made_up(attempt)));
        }
    }
}
