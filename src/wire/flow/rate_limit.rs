//! Status 429: how many requests a registry allows, and when to try again.
//!
//! Docker Hub sends `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 0;w=21600` (the window in seconds) and
//! `Retry-After`; with a login it allows more.

use std::time::Duration;

use http::header::HeaderMap;
use url::Url;

use crate::wire::address::host_port;

/// The limits in a 429 answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// When the host accepts requests again, at the latest.
    pub(crate) again: Option<Duration>,
    /// Number of requests that it allows, and in what time.
    limit: Option<(u64, Duration)>,
    host: String,
}

impl RateLimit {
    pub(crate) fn of(headers: &HeaderMap, url: &Url, retry_after: Option<Duration>) -> Self {
        let read = |name| headers.get(name).and_then(|value| value.to_str().ok()).and_then(counted);
        let used_up = read("ratelimit-remaining").filter(|(left, _)| *left == 0);
        let host = host_port(url);
        let host = if host == "registry-1.docker.io" { "docker.io".to_owned() } else { host };
        Self { again: retry_after.or(used_up.map(|(_, window)| window)), limit: read("ratelimit-limit"), host }
    }

    /// Describes the limits in words.
    pub(crate) fn told(&self) -> String {
        let again = self.again.map(|pause| format!("come back in {}", in_words(pause)));
        let limit = self.limit.map(|(count, window)| format!("{count} requests in {} are allowed", in_words(window)));
        [again, limit].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Returns what the operator can do about it.
    pub(crate) fn hint(&self) -> String {
        format!("registries allow more to those who have logged in: autonomy registry login {}", self.host)
    }
}

/// Reads `100;w=21600`.
fn counted(value: &str) -> Option<(u64, Duration)> {
    let (count, parameters) = value.split_once(';')?;
    let window = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("w="))?;
    Some((count.trim().parse().ok()?, Duration::from_secs(window.trim().parse().ok()?)))
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let minutes = seconds.div_ceil(60);
    match (minutes / 60, minutes % 60) {
        _ if seconds <= 120 => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_times_are_told() {
        assert_eq!(counted("100;w=21600"), Some((100, Duration::from_secs(21_600))));
        assert_eq!(counted(" 0 ; burst=1; w=60"), Some((0, Duration::from_secs(60))));
        for none in ["100", "100;x=1", "many;w=60", "-1;w=60", ""] {
            assert_eq!(counted(none), None, "{none}");
        }
        let told = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!(
            ["90 s", "59 min", "1 h", "1 h 7 min", "6 h"],
            [told(90), told(3_500), told(3_541), told(4_000), told(21_600)]
        );
    }
}
