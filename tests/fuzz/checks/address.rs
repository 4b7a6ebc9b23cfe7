//! Listen and advertise addresses: what parses prints back as a text that means the same.

use skein::model::address::{AddressSpec, HostSpec};

use super::assert_one_line;

/// Panics when the parser of addresses breaks a promise on this input.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let spec: AddressSpec = match text.parse() {
        Ok(spec) => spec,
        Err(error) => {
            assert_one_line(&error.to_string());
            return;
        }
    };
    let printed = spec.to_string();
    assert_eq!(printed.parse().as_ref(), Ok(&spec), "{printed}");
    assert_ne!(spec.port, Some(0));
    if let HostSpec::Interface(name) = &spec.host {
        assert!((1..=15).contains(&name.len()), "{name:?}");
        assert!(
            name.chars()
                .all(|c| c.is_ascii_graphic() && c != '/' && c != ':'),
            "{name:?}"
        );
        assert!(!spec.is_unspecified());
    }
}
