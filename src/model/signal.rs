//! Signals by the names that users give them.

use std::str::FromStr;

use nix::sys::signal::Signal;

/// The number of a signal that users write as `SIGINT`, `INT`, `2` or `RTMIN+3`; `None` when there is no such signal.
pub fn signal_number(name: &str) -> Option<i32> {
    let name = name.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let short = name.strip_prefix("SIG").unwrap_or(&name);
    // As Docker counts them: the C library keeps the first two real-time signals for itself.
    let real_time = |rest: &str, from: i32, sign: i32| match rest {
        "" => Some(from),
        rest => {
            let digits = rest.strip_prefix(if sign > 0 { '+' } else { '-' })?;
            digits.parse::<i32>().ok().map(|n| from + sign * n)
        }
    };
    let number = if let Some(rest) = short.strip_prefix("RTMIN") {
        real_time(rest, 34, 1)
    } else if let Some(rest) = short.strip_prefix("RTMAX") {
        real_time(rest, 64, -1)
    } else {
        let signal = Signal::from_str(&format!("SIG{short}"));
        return signal.ok().map(|signal| signal as i32);
    };
    number.filter(|number| (34..=64).contains(number))
}
