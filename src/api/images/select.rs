//! `GET /images/json`: which images are listed, and what is counted of them.

use std::collections::BTreeMap;

use super::reference;
use crate::api::backend::images::Image;
use crate::api::backend::{ImageStore, Refusal};
use crate::api::call::Call;
use crate::api::dto::image::{ImageSummary, bytes};
use crate::api::error::{Handled, json};
use crate::api::events::time::parse_until;
use crate::api::filters::{FilterError, Filters};
use crate::api::router::Api;
use crate::model::reference::Reference;
use crate::model::{Digest, Timestamp};

/// What the list filters by.
const FILTERS: &[&str] = &[
    "before",
    "dangling",
    "label",
    "label!",
    "reference",
    "since",
    "until",
];

/// `GET /images/json`.
pub(super) async fn list(api: &Api, call: &Call) -> Handled {
    let mut filters = Filters::parse(call.params.text("filters"), FILTERS)?;
    // As old clients send it.
    if !call.params.text("filter").is_empty() {
        filters.add("reference", call.params.text("filter"));
    }
    let images = api.backend.images()?;
    let all = images.list().await?;
    let chosen = Chosen::read(&filters, &all, images.as_ref(), api.backend.now()).await?;
    let shared = call.params.flag("shared-size").then(|| shared_sizes(&all));
    let mut listed = Vec::new();
    for image in all {
        let shared = shared.as_ref().map(|sizes| sizes[&image.id]);
        if let Some(image) = chosen.pick(image) {
            let mut summary = ImageSummary::of(image, call.version);
            summary.shared_size = shared.map_or(-1, bytes);
            listed.push(summary);
        }
    }
    Ok(json(&listed))
}

/// How many containers are made of an image; `-1` when that is not known.
pub(in crate::api) fn in_use(users: Option<&BTreeMap<Digest, usize>>, image: &Image) -> i64 {
    let count = users.map(|users| users.get(&image.manifest).copied().unwrap_or_default());
    count.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX))
}

/// Of each image, the bytes of the layers that another image has too.
pub(in crate::api) fn shared_sizes(images: &[Image]) -> BTreeMap<Digest, u64> {
    let mut holders: BTreeMap<Digest, usize> = BTreeMap::new();
    for layer in images.iter().flat_map(|image| &image.layers) {
        *holders.entry(layer.chain).or_default() += 1;
    }
    let shared = images.iter().map(|image| {
        let layers = image
            .layers
            .iter()
            .filter(|layer| holders[&layer.chain] > 1);
        (image.id, layers.map(|layer| layer.size).sum())
    });
    shared.collect()
}

/// The conditions of a list, read.
struct Chosen<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl<'a> Chosen<'a> {
    async fn read(
        filters: &'a Filters,
        all: &[Image],
        images: &dyn ImageStore,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let bad = |pattern: &&str| !is_pattern(pattern);
        if let Some(bad) = filters.values("reference").find(bad) {
            return Err(FilterError::BadValue("reference".into(), bad.into()).into());
        }
        let mut before = None;
        for name in filters.values("before") {
            let built = built(all, images, name).await?;
            before = Some(before.map_or(built, |earlier: Timestamp| earlier.min(built)));
        }
        let mut since = None;
        for name in filters.values("since") {
            let built = built(all, images, name).await?;
            since = Some(since.map_or(built, |later: Timestamp| later.max(built)));
        }
        let until = filters.values("until").next().unwrap_or_default();
        if let Some(until) = parse_until("until", until, now)? {
            before = Some(before.map_or(until, |earlier: Timestamp| earlier.min(until)));
        }
        Ok(Self {
            filters,
            dangling: filters.flag("dangling")?,
            before,
            since,
        })
    }

    /// The image with those of its names that are chosen, if it is.
    fn pick(&self, mut image: Image) -> Option<Image> {
        let labels = &image.config.labels;
        let built = image.created.unwrap_or_default();
        if self.before.is_some_and(|before| built >= before)
            || self.since.is_some_and(|since| built <= since)
            || self
                .dangling
                .is_some_and(|wanted| wanted != image.tags.is_empty())
            || !self.filters.labels("label", labels)
            || self.filters.has_unwanted("label!", labels)
        {
            return None;
        }
        let patterns: Vec<&str> = self.filters.values("reference").collect();
        if patterns.is_empty() {
            return Some(image);
        }
        let fits = |name: &String| patterns.iter().any(|pattern| is_named(pattern, name));
        image.tags.retain(fits);
        image.digests.retain(fits);
        let is_there = !image.tags.is_empty() || !image.digests.is_empty();
        is_there.then_some(image)
    }
}

/// When the image was built that a filter names.
async fn built(all: &[Image], images: &dyn ImageStore, name: &str) -> Result<Timestamp, Refusal> {
    let tag = reference(name).ok().map(|name| name.or_latest().familiar());
    let known = all
        .iter()
        .find(|image| image.tags.iter().any(|own| Some(own) == tag.as_ref()));
    let created = match known {
        Some(image) => image.created,
        None => images.inspect(name).await?.0.created,
    };
    Ok(created.unwrap_or_default())
}

/// Whether a name, or its repository, matches a pattern.
fn is_named(pattern: &str, name: &str) -> bool {
    let repository = name.parse::<Reference>().ok();
    let repository = repository.map(|name| name.familiar_name());
    matches(pattern, name) || repository.is_some_and(|name| matches(pattern, &name))
}

/// Whether this is a pattern of Go's `path.Match`.
fn is_pattern(pattern: &str) -> bool {
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '[' => match class(&rest[1..], '\0') {
                Some((_, rest)) => rest,
                None => return false,
            },
            '\\' => match rest[1..].chars().next() {
                Some(escaped) => &rest[1 + escaped.len_utf8()..],
                None => return false,
            },
            _ => &rest[first.len_utf8()..],
        };
    }
    true
}

/// Go's `path.Match`: `*` and `?` stand for anything but a slash, `[…]` for one of several.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when it does not fit: the last star takes one more.
    let mut star: Option<(&str, &str)> = None;
    loop {
        let first = text.chars().next();
        if let Some(rest) = pattern.strip_prefix('*') {
            star = Some((rest, text));
            pattern = rest;
            continue;
        }
        if pattern.is_empty() && first.is_none() {
            return true;
        }
        let after = first.and_then(|first| one(pattern, first).map(|rest| (rest, first)));
        if let Some((rest, first)) = after {
            (pattern, text) = (rest, &text[first.len_utf8()..]);
            continue;
        }
        let Some((after_star, from)) = star else {
            return false;
        };
        let Some(taken) = from.chars().next().filter(|taken| *taken != '/') else {
            return false;
        };
        let from = &from[taken.len_utf8()..];
        star = Some((after_star, from));
        (pattern, text) = (after_star, from);
    }
}

/// What is left of the pattern when its first part stands for this character.
fn one(pattern: &str, found: char) -> Option<&str> {
    let first = pattern.chars().next()?;
    let rest = &pattern[first.len_utf8()..];
    match first {
        '?' => (found != '/').then_some(rest),
        '[' => {
            let (fits, rest) = class(rest, found)?;
            fits.then_some(rest)
        }
        '\\' => rest.strip_prefix(found),
        first => (first == found).then_some(rest),
    }
}

/// Whether a class, after its bracket, has this character; and what comes after it. `None` when it has no end.
fn class(pattern: &str, found: char) -> Option<(bool, &str)> {
    let (negated, mut rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (mut fits, mut count) = (false, 0);
    loop {
        if count > 0
            && let Some(after) = rest.strip_prefix(']')
        {
            return Some((fits != negated, after));
        }
        let (low, after) = member(rest)?;
        let (high, after) = match after.strip_prefix('-') {
            Some(after) => member(after)?,
            None => (low, after),
        };
        fits |= (low..=high).contains(&found);
        rest = after;
        count += 1;
    }
}

fn member(text: &str) -> Option<(char, &str)> {
    let text = match text.strip_prefix('\\') {
        Some(escaped) => escaped,
        None if text.starts_with(['-', ']']) => return None,
        None => text,
    };
    let first = text.chars().next()?;
    Some((first, &text[first.len_utf8()..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_gos() {
        for (pattern, name, fits) in [
            ("busybox", "busybox:latest", true),
            ("busybox:lat*", "busybox:latest", true),
            ("busy*", "busybox:latest", true),
            ("*", "busybox:latest", true),
            ("*", "r.io/busybox:latest", false),
            ("*/*", "r.io/busybox:latest", true),
            ("*/*:1", "r.io/busybox:1", true),
            ("r.io/bus?box", "r.io/busybox:1", true),
            ("b[a-u]sybox", "busybox:1", true),
            ("b[^u]sybox", "busybox:1", false),
            ("busy", "busybox:1", false),
            ("**box", "busybox:1", true),
            ("\\busybox", "busybox:1", true),
        ] {
            assert_eq!(is_named(pattern, name), fits, "{pattern} {name}");
        }
        for bad in ["[", "a[]", "a\\", "[a-", "[-a]", "a[b"] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern: String, text: String) {
            let _ = (is_pattern(&pattern), matches(&pattern, &text));
        }

        #[test]
        fn a_text_without_signs_matches_itself_alone(text in "[a-z0-9/.:é]{0,12}", other in "[a-z0-9/.:é]{0,12}") {
            prop_assert!(matches(&text, &text));
            prop_assert_eq!(matches(&text, &other), text == other);
        }
    }
}
