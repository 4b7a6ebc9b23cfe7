//! Times as Docker tells them to people.

use std::time::Duration;

/// How long something has been: `Less than a second`, `About a minute`, `5 hours`, `3 weeks`.
pub(in crate::api) fn duration(span: Duration) -> String {
    const HOUR: u64 = 3600;
    let seconds = span.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + HOUR / 2) / HOUR);
    let many = |number: u64, unit: &str| format!("{number} {unit}");
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => many(seconds, "seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => many(minutes, "minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., ..48) => many(hours, "hours"),
        (.., ..336) => many(hours / 24, "days"),
        (.., ..1440) => many(hours / 24 / 7, "weeks"),
        (.., ..17520) => many(hours / 24 / 30, "months"),
        _ => many(hours / 24 / 365, "years"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_as_docker_tells_them() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), words, "{seconds}");
        }
    }
}
