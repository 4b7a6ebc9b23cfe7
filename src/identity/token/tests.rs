//! Tokens there and back, what is wrong with those that are none, and whom a secret admits.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "5oaq0bjhj6un82wg98mgigso5q7qlhc63je4gw7ivixqqhkd3p";
const SECRET: &str = "0123456789abcdefghijklmno";

fn token() -> String {
    format!("SWMTKN-1-{DIGEST}-{SECRET}")
}

fn addresses(text: &str) -> Result<Vec<String>, String> {
    format!("{}@{text}", token())
        .parse()
        .map(|token: JoinToken| token.addresses)
        .map_err(|error: TokenError| error.to_string())
}

#[test]
fn the_digest_is_the_sha256_of_the_text_in_base_36() {
    // SHA-256 of nothing, converted by another program.
    assert_eq!(RootDigest::of_pem("").to_string(), DIGEST);
    let largest = "6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtof";
    assert_eq!(RootDigest([0xff; 32]).to_string(), largest);
    assert_eq!(
        RootDigest::from_base36(largest),
        Some(RootDigest([0xff; 32]))
    );
    let beyond = "6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtog";
    assert_eq!(RootDigest::from_base36(beyond), None);
    assert_eq!(RootDigest([0; 32]).to_string(), "0".repeat(50));
}

#[test]
fn a_token_is_read_and_written() {
    let parsed: JoinToken = format!("  {}\n", token()).parse().unwrap();
    assert_eq!(parsed.digest, RootDigest::of_pem(""));
    assert_eq!(parsed.secret.0, SECRET);
    assert!(parsed.addresses.is_empty());
    assert_eq!(parsed.to_string(), token());
    assert!(!format!("{parsed:?}").contains(SECRET));
}

#[test]
fn addresses_are_read_in_every_form() {
    let text =
        "10.0.0.1,10.0.0.2:2400,node-1.example.com,node_2:1,[fd00::1]:2377,[fd00::2],fd00::3,a.";
    let expected = [
        "10.0.0.1",
        "10.0.0.2:2400",
        "node-1.example.com",
        "node_2:1",
        "[fd00::1]:2377",
        "[fd00::2]",
        "[fd00::3]",
        "a.",
    ];
    assert_eq!(addresses(text).unwrap(), expected);
    let again = addresses(&expected.join(",")).unwrap();
    assert_eq!(again, expected);
    assert_eq!(addresses(" 10.0.0.1 , 10.0.0.2 ").unwrap().len(), 2);
}

#[test]
fn each_bad_address_is_named() {
    let cases = [
        ("", "it is empty"),
        ("10.0.0.1,", "it is empty"),
        (":2377", "the host is missing"),
        ("host:", "a port is a number"),
        ("host:0", "a port is a number"),
        ("host:+80", "a port is a number"),
        ("host:65536", "a port is a number"),
        ("host:23a7", "a port is a number"),
        ("10.0.0.256", "not an IPv4 address"),
        ("10.0.0", "not an IPv4 address"),
        ("[fd00::1", "a ] is missing"),
        ("[10.0.0.1]:1", "not an IPv6 address"),
        ("[fd00::1]2377", "only :port may follow"),
        ("a:b:c", "a port is a number"),
        ("-a", "letters, digits"),
        ("a..b", "letters, digits"),
        ("http://host", "a port is a number"),
        ("user@host", "letters, digits"),
    ];
    for (text, words) in cases {
        let error = addresses(text).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
        assert!(error.contains("write TOKEN@host"), "{text}: {error}");
    }
    let long = addresses(&"a".repeat(500)).unwrap_err();
    assert!(long.contains("at most 253") && long.len() < 300, "{long}");
    let many = vec!["h"; MAX_ADDRESSES + 1].join(",");
    assert!(
        addresses(&many)
            .unwrap_err()
            .contains("more than 16 addresses")
    );
}

#[test]
fn each_bad_token_is_named() {
    let cases: &[(String, TokenError)] = &[
        (" ".into(), TokenError::Empty),
        ("hello".into(), TokenError::Prefix),
        (token().replace("SWMTKN", "swmtkn"), TokenError::Prefix),
        (format!("SWMTKN-2-1-{DIGEST}-{SECRET}"), TokenError::Fips),
        (format!("SWMTKN-1-{DIGEST}"), TokenError::Parts(1)),
        (format!("{}-x", token()), TokenError::Parts(3)),
        (
            format!("SWMTKN-1-{}-{SECRET}", &DIGEST[1..]),
            TokenError::DigestLength(49),
        ),
        (
            format!("SWMTKN-1-{DIGEST}0-{SECRET}"),
            TokenError::DigestLength(51),
        ),
        (
            token()[..token().len() - 3].into(),
            TokenError::SecretLength(22),
        ),
        (format!("{}0", token()), TokenError::SecretLength(26)),
        (
            format!("SWMTKN-1-{DIGEST}-{}A", &SECRET[1..]),
            TokenError::Character {
                found: 'A',
                position: 85,
            },
        ),
        (
            format!("SWMTKN-1-ä{}-{SECRET}", &DIGEST[1..]),
            TokenError::Character {
                found: 'ä',
                position: 10,
            },
        ),
        (
            format!("SWMTKN-1-{}-{SECRET}", "z".repeat(50)),
            TokenError::Range("first"),
        ),
        (
            format!("SWMTKN-1-{DIGEST}-{}", "z".repeat(25)),
            TokenError::Range("second"),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<JoinToken>().as_ref(), Err(expected), "{text}");
        assert_one_sentence(&expected.to_string());
    }
}

fn assert_one_sentence(words: &str) {
    assert!(words.starts_with("invalid join token: "), "{words}");
    assert!(!words.contains(". ") && !words.contains('\n'), "{words}");
    assert!(!words.contains(SECRET), "{words}");
    let says_what_to_do = ["skein token", "TOKEN@host", "one member that answers"];
    assert!(
        says_what_to_do.iter().any(|hint| words.contains(hint)),
        "{words}"
    );
}

/// Every file is a text that somebody might pass: `ok-…` is a token, `bad-…` is none, any other only must not panic.
#[test]
fn the_corpus_is_read_as_its_names_say() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/token");
    let (mut good, mut bad) = (0, 0);
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let parsed = String::from_utf8_lossy(&bytes).parse::<JoinToken>();
        match (name.split_once('-'), parsed) {
            (Some(("ok", _)), Ok(token)) => {
                assert_eq!(token.to_string().parse(), Ok(token), "{name}");
                good += 1;
            }
            (Some(("bad", _)), Err(error)) => {
                assert_one_sentence(&error.to_string());
                bad += 1;
            }
            (Some(("ok" | "bad", _)), other) => panic!("{name}: {other:?}"),
            _ => {}
        }
    }
    assert!(good >= 3 && bad >= 10, "{good} good and {bad} bad files");
}

fn secrets() -> JoinSecrets {
    JoinSecrets {
        worker: new_secret(),
        manager: new_secret(),
        peer: new_secret(),
    }
}

#[test]
fn a_secret_admits_to_what_it_is_for() {
    let secrets = secrets();
    assert_eq!(admits(&secrets, &secrets.worker), Some(JoinKind::Worker));
    assert_eq!(admits(&secrets, &secrets.manager), Some(JoinKind::Manager));
    assert_eq!(admits(&secrets, &secrets.peer), Some(JoinKind::Peer));
    assert_eq!(admits(&secrets, &new_secret()), None);
    let truncated = Secret(secrets.peer.0[..24].to_owned());
    assert_eq!(admits(&secrets, &truncated), None);
}

#[test]
fn a_secret_that_was_never_set_admits_nobody() {
    let unset = JoinSecrets::default();
    assert_eq!(admits(&unset, &Secret(String::new())), None);
    let mut one = secrets();
    one.manager = Secret::default();
    assert_eq!(admits(&one, &Secret(String::new())), None);
}

#[test]
fn new_secrets_are_128_random_bits() {
    let (a, b) = (new_secret(), new_secret());
    assert_ne!(a, b);
    assert_eq!(a.0.len(), SECRET_CHARS);
    assert!(crate::model::id::from_base36(&a.0).is_some());
}

fn address() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        any::<Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        "[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9-]{0,9}[a-z0-9]){0,3}",
    ];
    (host, prop::option::of(1u16..)).prop_map(|(host, port)| match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

proptest! {
    #[test]
    fn tokens_round_trip(
        digest: [u8; 32],
        secret: u128,
        addresses in prop::collection::vec(address(), 0..MAX_ADDRESSES),
    ) {
        let token = JoinToken {
            digest: RootDigest(digest),
            secret: Secret(to_base36(secret, SECRET_CHARS)),
            addresses,
        };
        prop_assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn no_text_panics(text: String) {
        let _ = text.parse::<JoinToken>();
        let _ = format!("SWMTKN-1-{text}").parse::<JoinToken>();
        let _ = addresses(&text);
    }

    #[test]
    fn a_changed_token_is_another_or_none(at: prop::sample::Index, to: char) {
        let mut text: Vec<char> = token().chars().collect();
        let at = at.index(text.len());
        prop_assume!(text[at] != to);
        text[at] = to;
        let text: String = text.into_iter().collect();
        match text.parse::<JoinToken>() {
            Ok(other) => prop_assert_ne!(other.to_string(), token()),
            Err(error) => assert_one_sentence(&error.to_string()),
        }
    }
}
