//! Join tokens, and the identifiers that are written in the same digits.
//!
//! What parses prints as what it was read from, but for the forms of its addresses; what does not is told in one line
//! that shows no secret.

use skein::identity::JoinToken;
use skein::identity::token::{MAX_ADDRESSES, PREFIX, SECRET_CHARS};
use skein::model::id::{ID_CHARS, from_base36, to_base36};
use skein::model::{ClusterId, NodeId};

use super::assert_one_line;

/// Panics when the parser of tokens or of identifiers breaks a promise on this input.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    token(&text);
    id(&text);
    id(text.trim());
}

fn token(text: &str) {
    let token: JoinToken = match text.parse() {
        Ok(token) => token,
        Err(error) => {
            let words = format!("{error}");
            assert_one_line(&words);
            assert!(words.starts_with("invalid join token: "), "{words}");
            return;
        }
    };
    let printed = token.to_string();
    assert_eq!(printed.parse().as_ref(), Ok(&token), "{printed}");
    let bare = |text: &str| text.trim().split('@').next().map(str::to_owned);
    assert_eq!(
        bare(&printed),
        bare(text),
        "the part before the @ has one form"
    );
    assert!(token.addresses.len() <= MAX_ADDRESSES);
    for address in &token.addresses {
        let is_plain = |c: char| c.is_ascii_graphic() && !",@/\"'`$;&|<>()".contains(c);
        assert!(address.chars().all(is_plain), "{address:?}");
    }
    let shown = format!("{token:?}");
    let elsewhere = shown.matches(&token.secret.0).count();
    let innocent = printed.matches(&token.secret.0).count() - 1;
    assert!(elsewhere <= innocent, "{shown}");
    assert!(printed.starts_with(PREFIX) && token.secret.0.len() == SECRET_CHARS);
}

fn id(text: &str) {
    let node = text.parse::<NodeId>();
    assert_eq!(
        node.as_ref().map(|node| node.bits()).ok(),
        text.parse::<ClusterId>().map(ClusterId::bits).ok()
    );
    match node {
        Ok(node) => assert_eq!(node.to_string(), text),
        Err(_) => assert!(
            text.len() != ID_CHARS || from_base36(text).is_none(),
            "{text}"
        ),
    }
    if let Some(value) = from_base36(text) {
        let digits = text.trim_start_matches('0');
        assert_eq!(to_base36(value, digits.len()), digits);
    }
}
