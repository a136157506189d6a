//! `autonomy registry ls`.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::Requests;
use crate::cli::args::network::AccessArgs;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::oci::ListPlace;
use crate::quantity::human;
use crate::terminal::interrupt::unless_interrupted;
use crate::terminal::print;
use crate::wire::Client;
use crate::workflow::{ListDetail, ListedImage, ListedTag, RepositoryList, TagList};

/// Width of a line with details.
const COLUMNS: usize = 80;
/// Longest tag that shares its line with the details of its image.
const LONGEST_TAG: usize = 24;

/// Lists the repositories of a registry, or the tags of a repository: names, then versions from the lowest up, then the
/// tags of signatures. One request for a thousand names.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// The registry, host[:port], or a repository on it, host[:port]/repository
    #[arg(value_name = "HOST[/REPOSITORY]")]
    place: ListPlace,
    /// Show digest, size, age and platforms of each image; for a registry the number of tags
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    requests: Requests,
}

impl Run for Ls {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let client = Client::new(self.access.client())?;
        client.check_credentials().await?;
        let detail = if self.long { ListDetail::Content(self.requests.jobs) } else { ListDetail::Name };
        let stopped = Error::new(Kind::Interrupted, "list");
        let (shown, unread) = match &self.place {
            ListPlace::Registry(host) => {
                let list = unless_interrupted(RepositoryList::read(host, detail, &client), stopped).await?;
                (context.show(&list, |list| repositories(list, self.long))?, list.unread())
            }
            ListPlace::Repository(repository) => {
                let list = unless_interrupted(TagList::read(repository, detail, &client), stopped).await?;
                (context.show(&list, |list| tags(list, self.long))?, list.unread())
            }
        };
        if unread == 0 {
            return Ok(shown);
        }
        print::note(&format!("error: {} could not be read", human::count(unread as u64, "entry")));
        Ok(ExitCode::from(Kind::Partial.exit_code()))
    }
}

fn repositories(list: &RepositoryList, is_long: bool) {
    if is_long {
        print::line(&format!("{:>6}  REPOSITORY", "TAGS"));
    }
    for entry in &list.repositories {
        match (&entry.tags, &entry.error) {
            (Some(count), _) => print::line(&format!("{count:>6}  {}", entry.path)),
            (None, Some(error)) => print::line(&format!("{:>6}  {}  {error}", "-", entry.path)),
            (None, None) => print::line(&entry.path),
        }
    }
}

fn tags(list: &TagList, is_long: bool) {
    if !is_long {
        return list.tags.iter().for_each(|entry| print::line(&entry.tag));
    }
    let fitting = list.tags.iter().map(|entry| entry.tag.len()).filter(|length| *length <= LONGEST_TAG);
    let width = fitting.max().unwrap_or_default().max("TAG".len());
    let now = Timestamp::now();
    print::line(&format!("{:<width$}  {:<12}  {:>10}  {:>5}  PLATFORMS", "TAG", "DIGEST", "SIZE", "AGE"));
    list.tags.iter().flat_map(|entry| rows(entry, width, now)).for_each(|row| print::line(&row));
}

/// Returns the line of a tag; two if the tag is too long for one.
fn rows(ListedTag { tag, image, error }: &ListedTag, width: usize, now: Timestamp) -> Vec<String> {
    let details = match image {
        Some(ListedImage { digest, platforms, size, created, artifact_type, .. }) => {
            let start = format!("{:<12}  {:>10}  {:>5}  ", digest.short(), human::bytes(*size), age(*created, now));
            let room = COLUMNS.saturating_sub(width + 2 + start.len());
            let what = match (platforms.as_slice(), artifact_type) {
                ([], Some(artifact_type)) => cut(artifact_type, room),
                ([], None) => "-".to_owned(),
                (platforms, _) => on(platforms, room),
            };
            format!("{start}{what}")
        }
        None => format!("{:<12}  {:>10}  {:>5}  {}", "-", "-", "-", error.as_deref().unwrap_or_default()),
    };
    if tag.len() <= width {
        return vec![format!("{tag:<width$}  {details}")];
    }
    vec![tag.clone(), format!("{:<width$}  {details}", "")]
}

/// Returns platforms in at most `room` characters, each system once: `linux/amd64,arm64`.
fn on(platforms: &[String], room: usize) -> String {
    let mut text = String::new();
    let mut system = None;
    for (position, platform) in platforms.iter().enumerate() {
        let (own, architecture) = platform.split_once('/').unwrap_or((platform, ""));
        let next = if system == Some(own) { format!(",{architecture}") } else { format!(" {platform}") };
        let next = if text.is_empty() { next.trim_start() } else { &next };
        let left = platforms.len() - position;
        let end = if left > 1 { format!(" +{}", left - 1).len() } else { 0 };
        // The first one is always shown.
        if !text.is_empty() && text.len() + next.len() + end > room {
            return format!("{text} +{left}");
        }
        text.push_str(next);
        system = Some(own);
    }
    text
}

/// Returns the end of a media type, which tells more than its beginning, in at most `room` characters.
fn cut(text: &str, room: usize) -> String {
    let count = text.chars().count();
    if count <= room {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count + 1 - room.max(1)).collect();
    format!("…{end}")
}

/// Returns how long ago that was, in the largest unit. A time before 1980 stands for none: builds that are to be
/// reproducible write one.
fn age(created: Option<Timestamp>, now: Timestamp) -> String {
    const UNITS: [(i64, &str); 5] = [(31_536_000, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    const YEAR_1980: i64 = 315_532_800;
    let Some(created) = created.map(Timestamp::as_second).filter(|second| *second >= YEAR_1980) else {
        return "-".to_owned();
    };
    let seconds = now.as_second().saturating_sub(created).max(0);
    let (length, unit) = UNITS.into_iter().find(|(length, _)| seconds >= *length).unwrap_or((1, "s"));
    // Months matter in the first two years.
    let (length, unit) = if unit == "y" && seconds < 2 * 31_536_000 { (86_400, "d") } else { (length, unit) };
    format!("{}{unit}", seconds / length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn an_age_is_in_its_largest_unit() {
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        for (created, expected) in [
            ("2026-11-30T12:00:00Z", "0s"),
            ("2026-11-30T11:59:01Z", "59s"),
            ("2026-11-30T11:00:01Z", "59min"),
            ("2026-11-29T13:00:00Z", "23h"),
            ("2026-11-28T11:00:00Z", "2d"),
            ("2025-06-01T12:00:00Z", "547d"),
            ("2023-01-01T12:00:00Z", "3y"),
            ("1970-01-01T00:00:00Z", "-"),
            ("2026-12-01T00:00:00Z", "0s"),
        ] {
            assert_eq!(age(created.parse().ok(), now), expected, "{created}");
        }
        assert_eq!(age(None, now), "-");
    }

    #[test]
    fn platforms_name_each_system_once_and_fit_the_line() {
        let texts = |platforms: &[&str]| platforms.iter().map(|&platform| platform.to_owned()).collect::<Vec<_>>();
        let three = texts(&["linux/amd64", "linux/arm64", "linux/arm/v7"]);
        assert_eq!(on(&three, 30), "linux/amd64,arm64,arm/v7");
        assert_eq!(on(&three, 24), "linux/amd64,arm64,arm/v7");
        assert_eq!(on(&three, 20), "linux/amd64,arm64 +1");
        assert_eq!(on(&three, 5), "linux/amd64 +2");
        assert_eq!(on(&texts(&["linux/amd64", "windows/amd64"]), 30), "linux/amd64 windows/amd64");
        assert_eq!(cut("application/spdx+json", 8), "…dx+json");
    }

    #[test]
    fn a_line_has_eighty_columns_and_a_long_tag_a_line_of_its_own() {
        let image = ListedImage {
            digest: Digest::sha256(b"x"),
            media_type: String::new(),
            artifact_type: None,
            platforms: ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"].map(str::to_owned).to_vec(),
            size: 1023 << 20,
            created: "2026-11-30T11:00:01Z".parse().ok(),
        };
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let entry = |tag: &str| ListedTag { tag: tag.to_owned(), image: Some(image.clone()), error: None };
        let rows_of = |tag: &str| rows(&entry(tag), LONGEST_TAG, now);
        let short = rows_of(&"v".repeat(LONGEST_TAG));
        assert_eq!(short.len(), 1);
        assert!(short[0].len() <= COLUMNS && short[0].ends_with("linux/amd64,arm64 +2"), "{short:?}");
        let long = rows_of(&"v".repeat(LONGEST_TAG + 1));
        assert_eq!((long.len(), &long[1][LONGEST_TAG..]), (2, &short[0][LONGEST_TAG..]));
    }
}
