//! Names for services whose users gave none: two words, as Docker makes them. Pure.

const FIRST: [&str; 32] = [
    "amber", "bold", "brisk", "calm", "clear", "crisp", "deep", "eager", "early", "even", "fair",
    "fast", "fine", "fresh", "gentle", "glad", "golden", "keen", "kind", "light", "lively",
    "merry", "mild", "neat", "quick", "quiet", "ready", "sharp", "silver", "steady", "sunny",
    "warm",
];

const SECOND: [&str; 32] = [
    "alder", "ash", "aspen", "badger", "beaver", "birch", "crane", "curlew", "dunlin", "eider",
    "elm", "falcon", "finch", "hazel", "heron", "ibex", "juniper", "lark", "linden", "lynx",
    "maple", "marten", "otter", "plover", "raven", "rowan", "sparrow", "stork", "swift", "thrush",
    "willow", "wren",
];

/// A name that is not `taken`, chosen by `seed`; with a number behind it when two words are not enough.
pub(super) fn made_up(seed: u64, taken: impl Fn(&str) -> bool) -> String {
    let word = |list: [&'static str; 32], by: u64| list[(by % 32) as usize];
    let pair = format!("{}_{}", word(FIRST, seed), word(SECOND, seed >> 5));
    if !taken(&pair) {
        return pair;
    }
    let mut number = seed >> 10;
    loop {
        let name = format!("{pair}{}", number % 1_000_000);
        if !taken(&name) {
            return name;
        }
        number = number.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_also_when_many_are_taken() {
        assert_eq!(made_up(0, |_| false), "amber_alder");
        assert_eq!(made_up(33, |_| false), "bold_ash");
        assert_eq!(made_up(0, |name| name == "amber_alder"), "amber_alder0");
        let few = |name: &str| !name.ends_with('7');
        assert_eq!(made_up(0, few), "amber_alder7");
    }
}
