//! The fallback index: lists referrers on registries without a Referrers API (distribution-spec, "Referrers Tag
//! Schema"). The tag `sha256-<hex>` of the subject names an index that every client reads, changes and writes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Registry, own_failure_may_pass, suffix};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Name, Tag, json_cost};
use crate::store::{MAX_MANIFEST_BYTES, Root, find, find_manifest};

/// Most bytes of a list of referrers, in pages or as a fallback index: thousands of entries. Four lists may be read at
/// the same time, and each takes its bytes twice.
pub(super) const MAX_REFERRER_BYTES: u64 = MAX_MANIFEST_BYTES;

/// Most values in a whole list of referrers.
pub(super) const MAX_VALUES: usize = 50_000;

/// How often an entry is written again after another client has overwritten it.
const MAX_WRITES: u32 = 10;
/// How long another client may take from reading an index to writing it back, which undoes writes in between: at least
/// this, and longer for a distant registry.
const OVERTAKEN: Duration = Duration::from_millis(250);
/// The same in round trips.
const OVERTAKEN_TRIPS: u32 = 4;
/// Entries of an index that are checked at the same time.
const QUESTIONS: usize = 8;

/// The fallback indexes that this run writes to, by repository and tag.
#[derive(Debug, Default)]
pub(super) struct FallbackIndexes(Mutex<HashMap<String, Arc<FallbackIndex>>>);

/// One fallback index. The holder of `pen` writes the entries of all waiting callers: one read and one write for all.
#[derive(Debug, Default)]
struct FallbackIndex {
    pen: tokio::sync::Mutex<()>,
    /// In order of arrival. Only the holder of `pen` removes entries, and only from the front.
    waiting: Mutex<Vec<Arc<PendingEntry>>>,
}

/// An entry to write, and the outcome.
#[derive(Debug)]
struct PendingEntry {
    entry: Value,
    /// Whether it had to be written.
    outcome: OnceLock<Result<bool>>,
}

/// The content under a fallback tag.
pub(super) enum FallbackContent {
    /// Nothing, or the subject itself.
    None,
    /// An index of referrers.
    Index(Bytes),
    /// A manifest of this type, which lists no referrers (distribution-spec, "Listing Referrers").
    Other(MediaType),
}

impl FallbackIndexes {
    fn ledger(&self, key: String) -> Arc<FallbackIndex> {
        // A panic elsewhere leaves the map whole: every change is one insertion.
        Arc::clone(crate::sync::lock(&self.0).entry(key).or_default())
    }
}

impl FallbackIndex {
    fn waiting(&self) -> MutexGuard<'_, Vec<Arc<PendingEntry>>> {
        // A panic elsewhere leaves the list whole: every change is one call.
        crate::sync::lock(&self.waiting)
    }

    /// Writes `entry`: this caller does, or an earlier one on its behalf. Returns whether anything had to be written.
    async fn write<F>(&self, entry: Value, together: impl FnOnce(Vec<Value>) -> F + Send) -> Result<bool>
    where
        F: Future<Output = Result<bool>> + Send,
    {
        let own = Arc::new(PendingEntry { entry, outcome: OnceLock::new() });
        self.waiting().push(Arc::clone(&own));
        let _pen = self.pen.lock().await;
        if let Some(outcome) = own.outcome.get() {
            return outcome.clone();
        }
        // Entries stay in the list until they are written: if this writer is cancelled, the next one writes them.
        let group = self.waiting().clone();
        let outcome = together(group.iter().map(|pending| pending.entry.clone()).collect()).await;
        self.waiting().drain(..group.len());
        for pending in group {
            // Only the holder of `pen` sets it.
            let _ = pending.outcome.set(outcome.clone());
        }
        outcome
    }
}

impl Registry {
    /// Makes `node` an entry of its subject's fallback index, and checks that it stays.
    pub(super) async fn attach(&self, subject: &Digest, node: &Descriptor, manifest: Manifest) -> Result<()> {
        let tag = fallback_tag(subject)?;
        let entry = Descriptor {
            artifact_type: manifest.referrer_type().cloned(),
            annotations: manifest.annotations,
            ..Descriptor::new(node.media_type.clone(), node.digest, node.size)
        };
        let entry = serde_json::to_value(entry).map_err(|why| self.unattached(&tag, Kind::Invalid).because(why))?;
        let ledger = self.notes.ledgers.ledger(format!("{}:{tag}", self.path));
        if ledger.write(entry, |entries| self.write_entries(subject, tag, entries)).await? {
            self.note_written();
        }
        Ok(())
    }

    /// Records that a list was written just now; other clients that read it before may still write the old one back.
    pub(crate) fn note_written(&self) {
        *self.last_entry() = Some(Instant::now());
    }

    /// Waits after a recent write for as long as a client that read the old index may take to write it back without the
    /// new entry. An entry that is listed then stays, unless a client is slower still.
    pub async fn settled(&self) {
        let Some(written) = *self.last_entry() else { return };
        let pause = OVERTAKEN.max(self.host.tally().fastest.unwrap_or_default() * OVERTAKEN_TRIPS);
        tokio::time::sleep_until(written + pause).await;
    }

    /// When this handle last wrote an entry.
    fn last_entry(&self) -> MutexGuard<'_, Option<Instant>> {
        // A panic elsewhere leaves it whole: every change is an assignment.
        crate::sync::lock(&self.last_entry)
    }

    /// Adds missing `entries` until the index is seen to hold all of them. Returns whether any was missing.
    async fn write_entries(&self, subject: &Digest, tag: Tag, entries: Vec<Value>) -> Result<bool> {
        let (mut found, mut has_rivals) = (None, false);
        for writes in 0..MAX_WRITES {
            let held = self.fallback_index(subject).await?;
            let digest = if let FallbackContent::Index(bytes) = &held { Some(Digest::sha256(bytes)) } else { None };
            // An index that is the same as before our write was not written by another client.
            has_rivals |= writes > 0 && digest != found;
            found = digest;
            let mut index: Value = match held {
                FallbackContent::Index(bytes) => {
                    serde_json::from_slice(&bytes).map_err(|why| self.unattached(&tag, Kind::Invalid).because(why))?
                }
                // Not overwritten (distribution-spec, "Pushing Manifests with Subject").
                FallbackContent::Other(media_type) => {
                    let why = format!("the tag is kept for an index of referrers, and holds a {media_type}");
                    return Err(self.unattached(&tag, Kind::Invalid).because(why));
                }
                FallbackContent::None => {
                    json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": []})
                }
            };
            if writes > 0 && self.refuses(&tag) {
                // The index exists now: a refusal no longer means that it is absent.
                return Err(self.unattached(&tag, Kind::Denied).because("its index was taken, and is not shown"));
            }
            if entries.iter().all(|entry| holds(&index, entry)) {
                return Ok(writes > 0);
            }
            for entry in &entries {
                if !holds(&index, entry) && !add(&mut index, entry.clone()) {
                    let why = "the tag is kept for an index of referrers, and what it holds is none";
                    return Err(self.unattached(&tag, Kind::Invalid).because(why));
                }
            }
            match self.put_index(&tag, &index).await {
                // Some registries reject an index because of entries that it has listed for long: write it without
                // missing ones. If none is missing, the rejected entry was one that another client was putting at that
                // moment.
                Err(error) if error.kind() == Kind::Incomplete => {
                    self.leave_out_missing(&mut index).await?;
                    self.put_index(&tag, &index).await?;
                }
                put => put?,
            }
            // Check again: another client may have written between our read and our write.
        }
        let why = match has_rivals {
            true => format!("other clients have overwritten the entry {MAX_WRITES} times"),
            false => format!("the registry has taken its index {MAX_WRITES} times, and does not show it"),
        };
        Err(self.unattached(&tag, Kind::Unavailable).because(why))
    }

    async fn put_index(&self, tag: &Tag, index: &Value) -> Result<()> {
        let bytes = serde_json::to_vec(index).map_err(|why| self.unattached(tag, Kind::Invalid).because(why))?;
        // Do not write an index that could not be read back: no client could list or attach anything any more.
        if is_too_large(&bytes) {
            let why = format!("its index would hold more than {MAX_REFERRER_BYTES} bytes or {MAX_VALUES} values");
            let hint = "a registry with the Referrers API keeps no such index";
            return Err(self.unattached(tag, Kind::Limit).because(why).hint(hint));
        }
        let (name, bytes) = (Name::Tag(tag.clone()), Bytes::from(bytes));
        let put = || async {
            let answer = self.put_bytes(&name, &MediaType::OCI_INDEX, &bytes).await?;
            answer.discard().await;
            Ok(())
        };
        self.host.retrying(own_failure_may_pass, put).await
    }

    /// Removes missing manifests from `index`.
    async fn leave_out_missing(&self, index: &mut Value) -> Result<()> {
        let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) else { return Ok(()) };
        let kept = stream::iter(std::mem::take(entries)).map(|entry| async move {
            let digest: Option<Digest> = entry.get("digest").and_then(Value::as_str).and_then(|text| text.parse().ok());
            let Some(digest) = digest else { return Ok(Some(entry)) };
            let held: Result<_> = find(self, &Name::Digest(digest)).await;
            held.map(|held| held.map(|_| entry))
        });
        let kept: Vec<_> = kept.buffered(QUESTIONS).try_collect().await?;
        entries.extend(kept.into_iter().flatten());
        Ok(())
    }

    fn unattached(&self, tag: &Tag, kind: Kind) -> Error {
        self.error(kind, "attach", suffix(&Name::Tag(tag.clone())))
    }

    /// Returns the content under the fallback tag of `subject`. GitLab takes that tag for the digest and returns the
    /// subject itself, which is not a list about it (oras-go #1396).
    pub(super) async fn fallback_index(&self, subject: &Digest) -> Result<FallbackContent> {
        let name = Name::Tag(fallback_tag(subject)?);
        let Some(Root { node, bytes }) = find_manifest(self, &name).await? else {
            return Ok(FallbackContent::None);
        };
        if subject.matches(&bytes) {
            return Ok(FallbackContent::None);
        }
        if node.media_type.is_index() {
            if is_too_large(&bytes) {
                let why =
                    format!("the fallback index holds more than {MAX_REFERRER_BYTES} bytes or {MAX_VALUES} values");
                let what = suffix(&Name::Digest(*subject));
                return Err(self.error(Kind::Limit, "list referrers of", what).because(why));
            }
            self.note_listed(subject);
            return Ok(FallbackContent::Index(bytes));
        }
        Ok(FallbackContent::Other(node.media_type))
    }
}

fn is_too_large(index: &[u8]) -> bool {
    index.len() as u64 > MAX_REFERRER_BYTES || json_cost::exceeds(index, MAX_VALUES)
}

fn fallback_tag(subject: &Digest) -> Result<Tag> {
    subject.fallback_tag().parse().map_err(|why| Error::new(Kind::Invalid, "attach").on(subject).because(why))
}

fn holds(index: &Value, entry: &Value) -> bool {
    let entries = index.get("manifests").and_then(Value::as_array);
    entries.is_some_and(|entries| entries.iter().any(|own| own.get("digest") == entry.get("digest")))
}

/// Adds an entry and leaves everything else as it is, known or not. Returns `false` if there is no place for it.
fn add(index: &mut Value, entry: Value) -> bool {
    let Some(fields) = index.as_object_mut() else { return false };
    match fields.entry("manifests").or_insert(Value::Null) {
        Value::Array(entries) => entries.push(entry),
        none @ Value::Null => *none = json!([entry]),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_entries_and_unknown_fields_stay() {
        let mut index = json!({"schemaVersion": 2, "x": [1], "manifests": [{"digest": "a", "y": {}}, "nonsense"]});
        let entry = json!({"digest": "b"});
        assert!(!holds(&index, &entry));
        assert!(add(&mut index, entry.clone()));
        assert!(holds(&index, &entry));
        assert_eq!(
            index,
            json!({"schemaVersion": 2, "x": [1], "manifests": [{"digest": "a", "y": {}}, "nonsense", {"digest": "b"}]})
        );
        let mut null = json!({"manifests": null});
        assert!(add(&mut null, entry.clone()));
        assert!(holds(&null, &entry));
        for strange in [json!([]), json!("x"), json!({"manifests": {}})] {
            assert!(!add(&mut strange.clone(), entry.clone()), "{strange}");
        }
    }
}
