//! Lists tags and the referrers of a manifest. Every list that a registry continues has a bound.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::fallback_index::{FallbackContent, MAX_REFERRER_BYTES, MAX_VALUES};
use super::{Notes, Registry, suffix};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, MediaType, Name, Tag, json_cost};
use crate::retry::Retry;
use crate::wire::{Request, Response, Scopes};

/// How much of a list of names is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameBounds {
    pages: usize,
    bytes: u64,
}

/// All of it: as many names as are allowed, at the length of the longest tags.
pub(super) const ALL_NAMES: NameBounds = NameBounds { pages: 1_000, bytes: 16 << 20 };

/// As much as asking for each of an image's accessories by name would cost: a few dozen requests.
pub(super) const FEW_NAMES: NameBounds = NameBounds { pages: 8, bytes: 512 << 10 };

/// Most names in a list: tags of a repository, repositories of a registry.
const MAX_NAMES: usize = 100_000;

/// A page's length that registries grant: distribution 3 refuses a longer page of repositories.
pub(super) const PAGE_NAMES: usize = 1_000;

/// A list of names: where it is, and what it is called in errors.
#[derive(Debug)]
pub(super) struct NameList<'a> {
    pub(super) path: &'a str,
    pub(super) op: &'static str,
    /// The names, in an error.
    pub(super) names: &'static str,
    pub(super) scopes: Scopes,
    /// The length of a page to ask for. Without it, some registries send everything at once and others a short page.
    pub(super) page: Option<usize>,
    pub(super) most: NameBounds,
}

/// Most pages of a list of referrers.
const MAX_REFERRER_PAGES: usize = 16;

/// Most referrers of one subject: hundreds are already unusual.
const MAX_REFERRERS: usize = 10_000;

// Both members must exist (distribution-spec, "Content Discovery"), even if null: an object without them is something
// else, for example an error, and must not pass for an empty list.

#[derive(Deserialize)]
pub(super) struct TagsPage {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) tags: Vec<String>,
}

impl From<TagsPage> for Vec<String> {
    fn from(page: TagsPage) -> Self {
        page.tags
    }
}

#[derive(Deserialize)]
pub(super) struct ReferrersIndex {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) manifests: Vec<Descriptor>,
}

pub(super) fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Statuses besides 404 that mean that there is no Referrers API: old gateways and servers answer an unknown path like
/// this (contract §6).
const NO_REFERRERS_API: [u16; 5] = [400, 405, 406, 410, 501];

/// A page as it was received.
struct Page {
    bytes: Bytes,
    next: Option<Url>,
    /// Whether it is such a list, and is damaged if it cannot be read. Anything else, for example a web page, comes
    /// from a registry that has no such list.
    is_list: bool,
}

/// Why there is no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPage {
    /// The registry says that the repository or the manifest is unknown.
    Subject,
    /// The list is not found.
    List,
    /// The registry says that such a list does not exist here.
    Api,
}

/// A page, or why there is none.
pub(super) type Listed<T> = std::result::Result<T, NoPage>;

/// Makes the request for a page.
type Ask<'a> = &'a (dyn Fn(Option<Url>) -> Request + Sync);

impl Registry {
    pub(super) async fn listed_tags(&self, most: NameBounds) -> Result<Vec<Tag>> {
        // No length of a page: registries that cap a page cap it anyway, and the others then return everything at once.
        Ok(self.tag_names(most, None).await?.unwrap_or_default())
    }

    /// Returns all tags, in pages of a thousand. For a caller that shows them.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no such repository; otherwise fails like
    /// [`Listing::tags`](crate::store::Listing::tags).
    pub async fn every_tag(&self) -> Result<Vec<Tag>> {
        let listed = match self.tag_names(ALL_NAMES, Some(PAGE_NAMES)).await {
            // The registry may refuse pages of this length.
            Err(error) if error.kind() == Kind::Invalid => self.tag_names(ALL_NAMES, None).await?,
            listed => listed?,
        };
        listed.map_err(|_| self.error(Kind::NotFound, "list tags of", ""))
    }

    async fn tag_names(&self, most: NameBounds, page: Option<usize>) -> Result<Listed<Vec<Tag>>> {
        let path = format!("/v2/{}/tags/list", self.path);
        let list = NameList { path: &path, op: "list tags of", names: "tags", scopes: self.scopes(), page, most };
        let names = self.listed_names::<TagsPage>(&list).await?;
        // Skip entries that are not valid tags: they could not be requested anyway.
        Ok(names.map(|names| names.iter().filter_map(|name| name.parse().ok()).collect()))
    }

    /// Returns all names of a list.
    pub(super) async fn listed_names<T: DeserializeOwned + Into<Vec<String>>>(
        &self,
        list: &NameList<'_>,
    ) -> Result<Listed<Vec<String>>> {
        let &NameList { path, op, names, ref scopes, page, most } = list;
        let first = page.map_or_else(|| path.to_owned(), |count| format!("{path}?n={count}"));
        let ask = |next| {
            let request = match next {
                None => Request::new(Method::GET, &*first, op, &self.label),
                Some(url) => Request::at(Method::GET, url, op, &self.label),
            };
            request.needing(scopes.clone())
        };
        let mut found = Vec::new();
        let mut pages = Pages::new(most.pages, MAX_NAMES, most.bytes);
        while let Some(url) = pages.next() {
            let (page, next) = match self.page::<T>(&ask, url, &mut pages).await? {
                Ok(page) => page,
                Err(missing) => return Ok(Err(missing)),
            };
            found.extend(page.into());
            let is_bounded = pages.continued(next).map_err(|why| self.error(Kind::Invalid, op, "").because(why))?;
            if found.len() > MAX_NAMES || !is_bounded {
                let why = format!("more than {MAX_NAMES} {names} or {} pages", most.pages);
                return Err(self.error(Kind::Limit, op, "").because(why));
            }
        }
        Ok(Ok(found))
    }

    pub(super) async fn all_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        if let Some(found) = self.known_by_the_api(subject).await? {
            return Ok(found);
        }
        match self.fallback_index(subject).await? {
            FallbackContent::Index(bytes) => {
                let wrong = |kind| self.error(kind, "list referrers of", at(subject));
                Ok(read::<ReferrersIndex>(&bytes, MAX_VALUES, wrong)?.manifests)
            }
            FallbackContent::None | FallbackContent::Other(_) if self.is_left_out(subject) => {
                Err(self.leaves_out(subject))
            }
            FallbackContent::None | FallbackContent::Other(_) => Ok(Vec::new()),
        }
    }

    /// Returns the Referrers API's answer, or `None` if there is no such API. Finds that out once.
    pub(super) async fn known_by_the_api(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let is_past_first = |notes: &Notes| notes.is_past_first_referrers.load(Ordering::Acquire);
        let mut first = None;
        if !is_past_first(&self.notes) {
            first = Some(self.notes.first_referrers.lock().await).filter(|_| !is_past_first(&self.notes));
        }
        if self.notes(|notes| &notes.lacks_referrers) || self.is_unlisted(subject) {
            return Ok(None);
        }
        let answer = self.ask_referrers(subject).await;
        if first.is_some() && answer.is_ok() {
            self.notes.is_past_first_referrers.store(true, Ordering::Release);
        }
        Ok(match answer? {
            Ok(found) => Some(found),
            Err(missing) => {
                if self.notes(|notes| &notes.has_referrers) && missing != NoPage::Subject {
                    self.note_unlisted(subject, missing);
                }
                None
            }
        })
    }

    /// Returns the Referrers API's answer, or why there is none (distribution-spec, "Listing Referrers").
    async fn ask_referrers(&self, subject: &Digest) -> Result<Listed<Vec<Descriptor>>> {
        let ask = |next| {
            let request = match next {
                None => self.request(Method::GET, &format!("referrers/{subject}"), "list referrers of", at(subject)),
                Some(url) => {
                    let what = format!("{}{}", self.label, at(subject));
                    Request::at(Method::GET, url, "list referrers of", what).needing(self.scopes())
                }
            };
            request.header(ACCEPT, MediaType::OCI_INDEX.as_str())
        };
        let mut found = Vec::new();
        let mut pages = Pages::new(MAX_REFERRER_PAGES, MAX_VALUES, MAX_REFERRER_BYTES);
        while let Some(url) = pages.next() {
            let (page, next) = match self.page::<ReferrersIndex>(&ask, url, &mut pages).await? {
                Ok(page) => page,
                Err(missing) => return Ok(Err(missing)),
            };
            found.extend(page.manifests);
            let in_circle = |why| self.error(Kind::Invalid, "list referrers of", at(subject)).because(why);
            if found.len() > MAX_REFERRERS || !pages.continued(next).map_err(in_circle)? {
                let why = format!("more than {MAX_REFERRERS} referrers or {MAX_REFERRER_PAGES} pages");
                return Err(self.error(Kind::Limit, "list referrers of", at(subject)).because(why));
            }
        }
        self.note(|notes| &notes.has_referrers);
        Ok(Ok(found))
    }

    /// Returns one page, and the URL of the next one. A list has no digest: a page that cannot be read is fetched once
    /// more, in case it was damaged on its way. [`NoPage`] if there is no such list; for referrers also if both answers
    /// are something else.
    async fn page<T: DeserializeOwned>(
        &self,
        ask: Ask<'_>,
        url: Option<Url>,
        pages: &mut Pages,
    ) -> Result<Listed<(T, Option<Url>)>> {
        let mut is_second = false;
        loop {
            let Page { bytes, next, is_list } = match self.page_bytes(ask, url.clone(), pages.bytes_left).await? {
                Ok(page) => page,
                Err(missing) => return Ok(Err(missing)),
            };
            match read(&bytes, pages.values_left, |kind| self.error(kind, "read the list of", "")) {
                Ok(page) => {
                    pages.values_left -= json_cost::count(&bytes);
                    pages.bytes_left -= bytes.len() as u64;
                    return Ok(Ok((page, next)));
                }
                Err(error) if error.kind() == Kind::Invalid && !is_second => is_second = true,
                Err(error) if error.kind() == Kind::Invalid && url.is_none() && !is_list => {
                    self.learn_of_no_referrers();
                    return Ok(Err(NoPage::Api));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the bytes of a page. 404 means that there is none, and a missing Referrers API has more ways to say so;
    /// but only for the first page: a list that breaks off has not ended.
    async fn page_bytes(&self, ask: Ask<'_>, url: Option<Url>, limit: u64) -> Result<Listed<Page>> {
        self.host
            .retrying(Retry::transient, || async {
                let answer = self.host.send(&ask(url.clone())).await?;
                let status = answer.status().as_u16();
                let is_referrers = answer.collection() == Some("referrers");
                match status {
                    404 if url.is_none() => Ok(Err(self.learn_from(answer).await)),
                    404 => Err(answer.error(Kind::Invalid, "the list breaks off: its next page is not found")),
                    _ if is_referrers && url.is_none() && NO_REFERRERS_API.contains(&status) => {
                        answer.discard().await;
                        self.learn_of_no_referrers();
                        Ok(Err(NoPage::Api))
                    }
                    _ => {
                        let answer = answer.expect(&[200]).await?;
                        let next = answer.next_page();
                        let is_index = is_index(&answer);
                        let bytes = answer.bytes(limit).await?;
                        let is_list = !is_referrers || (is_index && !is_other_json(&bytes));
                        // The links of a page that is not a list lead nowhere.
                        let next = if is_list { next? } else { next.unwrap_or_default() };
                        Ok(Ok(Page { bytes, next, is_list }))
                    }
                }
            })
            .await
    }

    /// Handles a 404: unless it is about the repository, it means that the registry does not know the path.
    async fn learn_from(&self, answer: Response) -> NoPage {
        let is_referrers = answer.collection() == Some("referrers");
        let problem = answer.problem().await;
        if is_referrers && !problem.has_code("NAME_UNKNOWN") {
            self.learn_of_no_referrers();
        }
        match ["NAME_UNKNOWN", "MANIFEST_UNKNOWN"].iter().any(|code| problem.has_code(code)) {
            true => NoPage::Subject,
            false => NoPage::List,
        }
    }

    /// Records that the registry has no Referrers API, as it says in other words, unless it has shown one: then its
    /// answer is about this subject alone.
    fn learn_of_no_referrers(&self) {
        if !self.notes(|notes| &notes.has_referrers) {
            self.note(|notes| &notes.lacks_referrers);
        }
    }
}

/// Parses a page: an object (a derived `Deserialize` also accepts an array) with at most `most` values.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8], most: usize, wrong: impl Fn(Kind) -> Error) -> Result<T> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(wrong(Kind::Invalid).because("not a JSON object"));
    }
    if json_cost::exceeds(bytes, most) {
        return Err(wrong(Kind::Limit).because("the list holds more values than are read"));
    }
    serde_json::from_slice(bytes).map_err(|why| wrong(Kind::Invalid).because(why))
}

/// Whether the answer's content type is an index, or missing.
fn is_index(answer: &Response) -> bool {
    answer.header(CONTENT_TYPE.as_str()).is_none_or(|text| MediaType::new(text).is_index())
}

/// Whether `bytes` are a whole JSON object that lists no manifests; damage does not turn a list into that.
fn is_other_json(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Members {
        #[serde(default, deserialize_with = "is_there")]
        manifests: bool,
    }
    fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
    }
    bytes.trim_ascii_start().first() == Some(&b'{')
        && serde_json::from_slice::<Members>(bytes).is_ok_and(|members| !members.manifests)
}

fn at(subject: &Digest) -> String {
    suffix(&Name::Digest(*subject))
}

/// Decides which page is next: each at most once, and no more than allowed.
struct Pages {
    next: Option<Option<Url>>,
    seen: HashSet<Url>,
    limit: usize,
    /// How many values the remaining pages may hold.
    values_left: usize,
    /// How many bytes the remaining pages may hold.
    bytes_left: u64,
}

impl Pages {
    fn new(limit: usize, values_left: usize, bytes_left: u64) -> Self {
        Self { next: Some(None), seen: HashSet::new(), limit, values_left, bytes_left }
    }

    fn next(&mut self) -> Option<Option<Url>> {
        self.next.take()
    }

    /// Accepts the link of a page; returns `false` if there are too many pages.
    ///
    /// # Errors
    ///
    /// Fails on a link to a page that was already read: the rest of the list is then unknown.
    fn continued(&mut self, link: Option<Url>) -> Result<bool, &'static str> {
        let Some(link) = link else { return Ok(true) };
        if !self.seen.insert(link.clone()) {
            return Err("the pages of the list link in a circle");
        }
        self.next = Some(Some(link));
        // The first page is not in `seen`.
        Ok(self.seen.len() < self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_of_pages_fails_and_so_does_a_long_list() {
        let url = |n: u32| Url::parse(&format!("http://r.example/{n}")).unwrap();
        let mut pages = Pages::new(10, 0, 0);
        assert_eq!(pages.continued(Some(url(1))), Ok(true));
        assert_eq!(pages.continued(Some(url(2))), Ok(true));
        assert!(pages.continued(Some(url(1))).is_err());

        let mut pages = Pages::new(10, 0, 0);
        let accepted = (0..100).take_while(|n| pages.continued(Some(url(*n))) == Ok(true)).count();
        assert_eq!(accepted, 9);
    }
}
