//! Search: finds, among everything attached to a digest, one signature that meets every demand by itself.
//!
//! The legacy tag comes first, because it costs one request; referrers are requested only if no signature there meets
//! the demands. The first good signature ends the search. An error of one place does not end it: the search returns
//! that error if no signature elsewhere is good either. Everything that a registry can make long has a bound here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;

use super::evidence::{Evidence, SignatureProof};
use super::requirements::{Demands, Freshness};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, Name, Repository, Shape, Tag};
use crate::store::{self, Root};
use crate::trust::claim::Claim;
use crate::trust::failure::{ErrorClass, Failure};
use crate::trust::key::{PublicKey, short};
use crate::trust::sigstore_bundle::{self, Envelope};
use crate::trust::simple_signing;
use crate::trust::tlog::{self, Entry, Recorded, Signed};

/// Most signatures of one legacy manifest that are checked: the first ones.
pub const MAX_SIGNATURES: usize = 100;
/// Most layers of a legacy manifest: a longer one is ignored whole, as in cosign.
pub const MAX_LISTED_SIGNATURES: usize = 1_000;
/// Most referrers of one subject that are read.
pub const MAX_REFERRERS: usize = 256;
/// Most bytes that are read in the search for one signature. Each object has a bound of its own; without this one, a
/// registry that lists 256 of the largest would still make an edge site fetch a gigabyte.
pub const MAX_TOTAL_BYTES: u64 = 64 << 20;

/// Most places that may fail to answer before the search waits for no more.
const MAX_WAITS: usize = 3;

/// The type of a legacy signature that is attached as a referrer (cosign's `oci-1-1` mode).
const ATTACHED_LEGACY: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// The end of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// At the first signature that meets every demand.
    First,
    /// After all in one place: under the tag, else among the referrers. Content that was signed again keeps its older
    /// signatures.
    OnePlace,
    /// After all, in every place.
    Everywhere,
}

/// The result of a search.
#[derive(Debug)]
pub(super) struct Found {
    /// The signatures that meet every demand, in the order in which they were found; else the reason why there is none.
    pub(super) proofs: Result<Vec<SignatureProof>, Failure>,
    /// The reason why there may be more than were read: a list that is too long.
    pub(super) unread: Option<Failure>,
}

/// The content of a signature that meets every demand: its key, its time, and its log entry.
type Verdict<'a> = (&'a PublicKey, Option<Timestamp>, Option<Recorded>);

impl SignatureProof {
    fn new(signs: Digest, verdict: Verdict<'_>, form: &'static str, evidence: Evidence) -> Self {
        let (key, signed_at, recorded) = verdict;
        Self { signs, key: key.fingerprint(), signed_at, recorded, form, evidence }
    }
}

/// The subject of a search, and the places to search.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) store: &'a dyn store::ListingStore,
    pub(super) demands: &'a Demands,
    pub(super) repository: &'a Repository,
    pub(super) digest: Digest,
    pub(super) freshness: Freshness,
    pub(super) reach: Reach,
    /// The referrers, if the caller has requested them already.
    pub(super) referrers: Option<&'a [Descriptor]>,
}

/// The failures so far: how many, and the one that got furthest; and the bytes that were read.
#[derive(Debug, Default)]
struct SearchTally {
    count: usize,
    furthest: Option<Failure>,
    bytes: u64,
    /// The error of the first place that could not be read.
    refusal: Option<Error>,
    /// How many places were unavailable.
    waits: usize,
    /// The reason why some possible signatures were not read.
    unread: Option<Failure>,
    /// Whether the list gives another type for the present object: attestations may have any length.
    is_another_kind: bool,
}

impl SearchTally {
    fn add(&mut self, failure: Failure) {
        self.count += 1;
        if self.furthest.as_ref().is_none_or(|furthest| furthest.class.distance() < failure.class.distance()) {
            self.furthest = Some(failure);
        }
    }

    /// Records that some possible signatures were not read.
    fn cut_short(&mut self, why: String) {
        let failure = Failure::new(ErrorClass::SigLimit, why);
        if !self.is_another_kind {
            self.unread.get_or_insert_with(|| failure.clone());
        }
        self.add(failure);
    }

    /// Records an error. Wrong *content* of a signature object is a failure; an error of the *request* stays an error.
    /// Mixing them up would make a registry that refuses to answer look like one without signatures.
    fn take(&mut self, error: Error) {
        match error.kind() {
            Kind::Corrupt => self.add(Failure::new(ErrorClass::BlobDigest, error.chain())),
            Kind::Limit => self.cut_short(error.chain()),
            kind => {
                self.waits += usize::from(kind == Kind::Unavailable);
                self.refusal.get_or_insert(error);
            }
        }
    }

    /// Whether the search may query another place: each unavailable one costs a wait.
    fn may_wait(&self) -> bool {
        self.waits < MAX_WAITS
    }

    /// Whether `node` may be fetched: it is no larger than `limit`, and the search has not read too much already.
    fn admits(&mut self, node: &Descriptor, what: &str, limit: u64) -> bool {
        if node.size > limit {
            // An object of this size is no signature to its publisher either.
            let why = format!("a {what} says that it is {} bytes long; at most {limit} are read", node.size);
            self.add(Failure::new(ErrorClass::SigLimit, why));
            return false;
        }
        if self.bytes.saturating_add(node.size) > MAX_TOTAL_BYTES {
            self.cut_short(format!("what is attached is longer than the {MAX_TOTAL_BYTES} bytes that are read in all"));
            return false;
        }
        self.bytes += node.size;
        true
    }
}

/// Returns the tag under which cosign stores the legacy signatures of `digest`; none if it would be too long for a tag.
#[must_use]
pub fn signature_tag(digest: &Digest) -> Option<Tag> {
    format!("{}-{}.sig", digest.algorithm().as_str(), digest.hex()).parse().ok()
}

impl Search<'_> {
    /// Runs the search.
    ///
    /// # Errors
    ///
    /// Fails as the store does. Any defect of the content is a [`Failure`] instead.
    pub(super) async fn run(&self) -> Result<Found> {
        let (mut tally, mut proofs) = (SearchTally::default(), Vec::new());
        self.under_the_tag(&mut tally, &mut proofs).await;
        if proofs.is_empty() || self.reach == Reach::Everywhere {
            self.among_the_referrers(&mut tally, &mut proofs).await;
        }
        let SearchTally { count, furthest, refusal, unread, .. } = tally;
        // A place that refused may have a newer signature: the ones found are the least that is known.
        if !proofs.is_empty() {
            return Ok(Found { proofs: Ok(proofs), unread });
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let failure = match furthest {
            None => {
                Failure::new(ErrorClass::SigNotFound, format!("nothing that signs {} is attached to it", self.digest))
            }
            Some(failure) if count == 1 => failure,
            Some(Failure { class, detail }) => {
                Failure::new(class, format!("{detail} (of {count} failures, the one that got furthest)"))
            }
        };
        Ok(Found { proofs: Err(failure), unread })
    }

    /// Whether the search is complete.
    fn is_over(&self, proofs: &[SignatureProof]) -> bool {
        self.reach == Reach::First && !proofs.is_empty()
    }

    async fn under_the_tag(&self, tally: &mut SearchTally, proofs: &mut Vec<SignatureProof>) {
        let Some(tag) = signature_tag(&self.digest) else { return };
        let Some(root) = self.fetch(&Name::Tag(tag.clone()), tally).await else { return };
        let evidence = Evidence::Tagged { tag: tag.clone(), node: root.node.clone(), layer: 0 };
        match parse(&root) {
            Ok(manifest) => self.legacy(&manifest, evidence, tally, proofs).await,
            Err(why) => tally.add(Failure::new(ErrorClass::SigFormat, format!("under {tag}: {why}"))),
        }
    }

    /// Continues among the referrers.
    async fn among_the_referrers(&self, tally: &mut SearchTally, proofs: &mut Vec<SignatureProof>) {
        let asked;
        let listed = match self.referrers {
            Some(listed) => listed,
            None => match self.store.referrers(&self.digest).await {
                Ok(found) => {
                    asked = found;
                    &asked
                }
                Err(error) => {
                    let is_refusal = !matches!(error.kind(), Kind::Corrupt | Kind::Limit);
                    tally.take(error);
                    asked = if is_refusal { self.fallback_entries(tally).await } else { Vec::new() };
                    &asked
                }
            },
        };
        let mut listed: Vec<_> = listed.iter().collect();
        // The list's types decide nothing, because lists are wrong (buildx #4010); they do give the order.
        listed.sort_by_key(|node| likelihood(node));
        for node in listed.iter().take(MAX_REFERRERS) {
            tally.is_another_kind = likelihood(node) == ANOTHER_KIND;
            if !proofs.is_empty() && tally.is_another_kind {
                break;
            }
            if tally.admits(node, "referrer", store::MAX_MANIFEST_BYTES) {
                self.referrer(node, tally, proofs).await;
            }
            if self.is_over(proofs) {
                return;
            }
        }
        if let Some(first) = listed.get(MAX_REFERRERS) {
            tally.is_another_kind = likelihood(first) == ANOTHER_KIND;
            tally.cut_short(format!("{} referrers are listed, {MAX_REFERRERS} are looked into", listed.len()));
        }
    }

    async fn referrer(&self, node: &Descriptor, tally: &mut SearchTally, proofs: &mut Vec<SignatureProof>) {
        let Some(root) = self.fetch(&Name::Digest(node.digest), tally).await else { return };
        // An object that is no manifest, or refers to another subject, is no failed signature: it is none at all. One
        // that refers to other content would be lost at the next registry, which lists by the manifest's subject.
        let Ok(manifest) = parse(&root) else { return };
        if manifest.subject.as_ref().is_none_or(|subject| subject.digest != self.digest) {
            return;
        }
        let evidence = Evidence::Referrer { node: root.node.clone() };
        match manifest.layers.as_slice() {
            [layer] if layer.media_type.as_str().starts_with(sigstore_bundle::MEDIA_TYPE_PREFIX) => {
                self.bundle(layer, evidence, tally, proofs).await;
            }
            _ if is_attached_legacy(&manifest) => self.legacy(&manifest, evidence, tally, proofs).await,
            _ => {}
        }
    }

    /// Returns the entries of the fallback index, if the list of referrers was refused: a registry may have both.
    async fn fallback_entries(&self, tally: &mut SearchTally) -> Vec<Descriptor> {
        let Ok(tag) = self.digest.fallback_tag().parse() else { return Vec::new() };
        let root = self.fetch(&Name::Tag(tag), tally).await;
        let index = root.filter(|root| !self.digest.matches(&root.bytes)).and_then(|root| root.manifest().ok());
        index.map(|index| index.manifests).unwrap_or_default()
    }

    async fn legacy(
        &self,
        manifest: &Manifest,
        evidence: Evidence,
        tally: &mut SearchTally,
        proofs: &mut Vec<SignatureProof>,
    ) {
        let count = manifest.layers.len();
        if count > MAX_LISTED_SIGNATURES {
            return tally
                .cut_short(format!("{count} signatures in one manifest, at most {MAX_LISTED_SIGNATURES} are allowed"));
        }
        let mut last: Option<(Digest, Bytes)> = None;
        let signatures = manifest.layers.iter().filter(|layer| layer.media_type.as_str() == simple_signing::MEDIA_TYPE);
        for (position, layer) in signatures.take(MAX_SIGNATURES).enumerate() {
            let signature = match signature_of(layer) {
                Ok(signature) => signature,
                Err(failure) => {
                    tally.add(failure);
                    continue;
                }
            };
            // Several keys that sign one image sign the same payload: it is fetched once.
            let held = last.take().filter(|(digest, _)| *digest == layer.digest).map(|(_, bytes)| bytes);
            let bytes = match held {
                Some(bytes) => bytes,
                None => match self.content(layer, simple_signing::MAX_BYTES, "payload", tally).await {
                    Some(bytes) => bytes,
                    None => continue,
                },
            };
            match self.judge_legacy(layer, &bytes, &signature) {
                Ok(verdict) => {
                    let evidence = evidence.clone().of_layer(position);
                    proofs.push(SignatureProof::new(self.digest, verdict, "legacy", evidence));
                    if self.is_over(proofs) {
                        break;
                    }
                }
                Err(failure) => tally.add(failure),
            }
            last = Some((layer.digest, bytes));
        }
        if count > MAX_SIGNATURES {
            tally.cut_short(format!("{count} signatures in one manifest, the first {MAX_SIGNATURES} are read"));
        }
    }

    async fn bundle(
        &self,
        layer: &Descriptor,
        evidence: Evidence,
        tally: &mut SearchTally,
        proofs: &mut Vec<SignatureProof>,
    ) {
        let Some(bytes) = self.content(layer, sigstore_bundle::MAX_BYTES, "bundle", tally).await else { return };
        match self.judge_bundle(&bytes) {
            Ok(verdict) => proofs.push(SignatureProof::new(self.digest, verdict, "bundle", evidence)),
            Err(failure) => tally.add(failure),
        }
    }

    /// Verifies the signature first, then parses those same bytes: nothing unsigned is parsed.
    fn judge_legacy(&self, layer: &Descriptor, bytes: &[u8], signature: &[u8]) -> Result<Verdict<'_>, Failure> {
        let key = self.demands.keys.iter().find(|key| key.verifies(bytes, signature));
        let key = key.ok_or_else(|| self.stranger("legacy signature"))?;
        let signed_at = self.check(&simple_signing::read(bytes, &self.digest)?)?;
        let signed = Signed { key, signature, message: bytes, enveloped: None };
        let entry = layer.annotations.get(tlog::ANNOTATION);
        let entries = || entry.map(|text| Entry::from_annotation(text)).into_iter().collect();
        Ok((key, signed_at, tlog::check(&self.demands.log_keys, self.demands.tlog, &signed, entries)?))
    }

    fn judge_bundle(&self, bytes: &[u8]) -> Result<Verdict<'_>, Failure> {
        let envelope = Envelope::parse(bytes)?;
        let key = envelope.signer(&self.demands.keys).ok_or_else(|| self.stranger("bundle"))?;
        let signed_at = self.check(&envelope.read(&self.digest)?)?;
        Ok((key, signed_at, envelope.check_log(&self.demands.log_keys, self.demands.tlog, key)?))
    }

    fn check(&self, claim: &Claim) -> Result<Option<Timestamp>, Failure> {
        self.demands.check(claim, self.repository, self.freshness)
    }

    fn stranger(&self, what: &str) -> Failure {
        let trusted: Vec<_> = self.demands.keys.iter().map(|key| short(&key.fingerprint())).collect();
        let why = format!("a {what} of {} is not by a trusted key ({})", self.digest, trusted.join(", "));
        Failure::new(ErrorClass::SigNoMatch, why)
    }

    /// Returns a signature's manifest, or none if it is missing or cannot be read; the tally has the reason.
    async fn fetch(&self, name: &Name, tally: &mut SearchTally) -> Option<Root> {
        if !tally.may_wait() {
            return None;
        }
        store::find_manifest(self.store, name).await.unwrap_or_else(|error| {
            tally.take(error);
            None
        })
    }

    /// Returns the content of a signature's manifest. Fetches nothing whose descriptor is too large.
    async fn content(&self, node: &Descriptor, limit: u64, what: &str, tally: &mut SearchTally) -> Option<Bytes> {
        if !tally.may_wait() || !tally.admits(node, what, limit) {
            return None;
        }
        match store::read_small(self.store, node, limit).await {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == Kind::NotFound => {
                tally.add(Failure::new(
                    ErrorClass::SigNotFound,
                    format!("a signature's {what} {} is not held", node.digest),
                ));
                None
            }
            Err(error) => {
                tally.take(error);
                None
            }
        }
    }
}

fn parse(root: &Root) -> Result<Manifest, String> {
    let manifest = root.manifest().map_err(|why| why.to_string())?;
    if manifest.shape == Shape::Index { Err("an index, not a manifest".to_owned()) } else { Ok(manifest) }
}

fn is_attached_legacy(manifest: &Manifest) -> bool {
    // Older writers omit the artifact type and give it in the configuration alone.
    let config = manifest.config.as_ref().map(|config| &config.media_type);
    manifest.artifact_type.as_ref().into_iter().chain(config).any(|media_type| media_type.as_str() == ATTACHED_LEGACY)
}

/// The sort key of objects that the list gives another type than an image signature.
const ANOTHER_KIND: u8 = 3;

/// Returns a sort key: image signatures by the list's type first, then objects without a type, then other types.
fn likelihood(node: &Descriptor) -> u8 {
    let artifact_type = node.artifact_type.as_ref().map_or("", |artifact_type| artifact_type.as_str());
    let predicate = node.annotations.get("dev.sigstore.bundle.predicateType");
    match artifact_type {
        bundle if bundle.starts_with(sigstore_bundle::MEDIA_TYPE_PREFIX) => match predicate {
            Some(predicate) if predicate == sigstore_bundle::PREDICATE_TYPE => 0,
            None => 1,
            Some(_) => ANOTHER_KIND,
        },
        ATTACHED_LEGACY => 1,
        "" | "application/vnd.oci.empty.v1+json" => 2,
        _ => ANOTHER_KIND,
    }
}

/// Returns the signature in a layer's annotation. cosign's own parser skips line breaks, and nothing else.
fn signature_of(layer: &Descriptor) -> Result<Vec<u8>, Failure> {
    let format = |why: String| Failure::new(ErrorClass::SigFormat, why);
    let text = layer.annotations.get(simple_signing::SIGNATURE);
    let text = text.ok_or_else(|| format(format!("a layer holds no annotation {}", simple_signing::SIGNATURE)))?;
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(text).map_err(|why| format(format!("a signature is not base64: {why}")))
}
