//! Blobs of any length, signed and verified piece by piece: content that does not fit in memory.
//!
//! The schemes are those of images (`key`, `signing_key`). ECDSA and RSA sign a hash. Pure Ed25519 signs the content
//! itself: verifying takes one pass, signing two.

use std::cell::RefCell;

use aws_lc_rs::digest::{self, Algorithm, Context};
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign_byupdate};
use ed25519_dalek::{Digest as _, Sha512, SignatureError, StreamVerifier, VerifyingKey};

use super::blob_signature::{self, BlobSignature};
use super::failure::{ErrorClass, Failure};
use super::key::{KeyScheme, PublicKey, short};
use super::signing_key::SigningKey;
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;

/// Takes the next piece of a blob.
pub type Sink<'a> = dyn FnMut(&[u8]) + 'a;

/// A blob that was signed.
#[derive(Debug, Clone)]
pub struct BlobSeal {
    /// The digest of the blob.
    pub digest: Digest,
    /// The content of the signature's file: a sigstore bundle.
    pub bundle: Vec<u8>,
}

/// Signs a blob. `feed` hands all of it to the sink, piece by piece; with an Ed25519 key it is called twice.
///
/// # Errors
///
/// Fails if `feed` does; [`Local`](Kind::Local) if the blob changes between two passes, or if the system has no
/// randomness.
pub fn sign(key: &SigningKey, mut feed: impl FnMut(&mut Sink<'_>) -> Result<()>) -> Result<BlobSeal> {
    let (hash, signature) = match key.ed25519_seed()? {
        Some(seed) => sign_ed25519(&seed, feed)?,
        None => {
            let mut sha256 = Context::new(&digest::SHA256);
            feed(&mut |piece| sha256.update(piece))?;
            let hash = sha256.finish();
            (hash, key.sign_hash(&hash)?)
        }
    };
    let bundle = blob_signature::build(&key.public_key()?, hash.as_ref(), &signature);
    Ok(BlobSeal { digest: named(&hash), bundle })
}

/// Signs in two passes (RFC 8032, section 5.1.6). A signature whose passes saw different content would reveal the private
/// key: it is dropped.
fn sign_ed25519(seed: &[u8; 32], feed: impl FnMut(&mut Sink<'_>) -> Result<()>) -> Result<(digest::Digest, Vec<u8>)> {
    struct Passes<F> {
        feed: F,
        seen: Vec<digest::Digest>,
        failed: Option<Error>,
    }
    let public = ed25519_dalek::SigningKey::from_bytes(seed).verifying_key();
    let passes = RefCell::new(Passes { feed, seen: Vec::new(), failed: None });
    let pass = |hasher: &mut Sha512| {
        let Passes { feed, seen, failed } = &mut *passes.borrow_mut();
        let mut sha256 = Context::new(&digest::SHA256);
        let fed = feed(&mut |piece| {
            hasher.update(piece);
            sha256.update(piece);
        });
        seen.push(sha256.finish());
        fed.map_err(|error| {
            *failed = Some(error);
            SignatureError::new()
        })
    };
    let signature = raw_sign_byupdate(&ExpandedSecretKey::from(seed), pass, &public);
    let Passes { seen, failed, .. } = passes.into_inner();
    match (failed, signature, &*seen) {
        (Some(error), ..) => Err(error),
        (None, Ok(signature), [first, second]) if first.as_ref() == second.as_ref() => {
            Ok((*first, signature.to_bytes().to_vec()))
        }
        _ => Err(Error::new(Kind::Local, "sign").because("the content changed while it was read")),
    }
}

fn named(sha256: &digest::Digest) -> Digest {
    Digest::Sha256(sha256.as_ref().try_into().expect("a SHA-256 has 32 bytes"))
}

/// The verdict on a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobVerdict {
    /// The digest of the blob.
    pub digest: Digest,
    /// The fingerprint of the trusted key that signed, or why none did.
    pub signer: Result<String, Failure>,
}

/// Verifies a signature while the bytes of the blob pass.
pub struct BlobVerifier<'a> {
    signature: &'a BlobSignature,
    keys: &'a [PublicKey],
    hashes: Vec<Context>,
    ed25519: Vec<Ed25519Check<'a>>,
}

/// An Ed25519 key, and its two schemes over the content so far.
struct Ed25519Check<'a> {
    key: &'a PublicKey,
    verifying: &'a VerifyingKey,
    pure: StreamVerifier,
    prehashed: Sha512,
}

impl<'a> BlobVerifier<'a> {
    /// Starts a verification of `signature`; any of `keys` is trusted.
    #[must_use]
    pub fn new(signature: &'a BlobSignature, keys: &'a [PublicKey]) -> Self {
        let mut functions: Vec<&'static Algorithm> = vec![&digest::SHA256];
        let more = keys.iter().filter_map(|key| match key.scheme() {
            KeyScheme::EcdsaP384 => Some(&digest::SHA384),
            KeyScheme::EcdsaP521 => Some(&digest::SHA512),
            _ => None,
        });
        for function in more.chain(signature.declared.as_ref().map(digest::Digest::algorithm)) {
            if !functions.contains(&function) {
                functions.push(function);
            }
        }
        let ed25519 = keys.iter().filter_map(|key| Ed25519Check::new(key, &signature.signature)).collect();
        Self { signature, keys, hashes: functions.into_iter().map(Context::new).collect(), ed25519 }
    }

    /// Takes the next piece of the blob.
    pub fn update(&mut self, piece: &[u8]) {
        self.hashes.iter_mut().for_each(|hash| hash.update(piece));
        for check in &mut self.ed25519 {
            check.pure.update(piece);
            check.prehashed.update(piece);
        }
    }

    /// Returns the verdict, after the last piece. A failure is `SIG_NO_MATCH` if no trusted key signed, and
    /// `SIG_DIGEST_MISMATCH` if one signed other content.
    #[must_use]
    pub fn finish(self) -> BlobVerdict {
        let Self { signature, keys, hashes, ed25519 } = self;
        let hashes: Vec<_> = hashes.into_iter().map(Context::finish).collect();
        let by_hash = |key: &&PublicKey| hashes.iter().any(|hash| key.verifies_hash(hash, &signature.signature));
        let signer = keys.iter().find(by_hash);
        let signer = signer.or_else(|| ed25519.into_iter().find_map(|check| check.finish(&signature.signature)));
        let signer = judged(signature, keys, &hashes, signer.filter(|_| signature.is_by_key));
        BlobVerdict { digest: named(&hashes[0]), signer }
    }
}

/// Returns the fingerprint of the `signer` of content with these hashes, or the reason for none.
fn judged(
    signature: &BlobSignature,
    keys: &[PublicKey],
    hashes: &[digest::Digest],
    signer: Option<&PublicKey>,
) -> Result<String, Failure> {
    // The file's own word on the content. It is not signed: it only ever makes a verdict stricter.
    let other = signature.declared.filter(|declared| hashes.iter().all(|hash| hash.as_ref() != declared.as_ref()));
    let signed_other = |key: &&PublicKey| other.is_some_and(|hash| key.verifies_hash(&hash, &signature.signature));
    if let Some(key) = signer.filter(|_| other.is_none()) {
        return Ok(key.fingerprint());
    }
    if let Some(other) = other.filter(|_| signer.is_some() || keys.iter().any(|key| signed_other(&key))) {
        let [other, here] = [other, hashes[0]].map(|hash| hex::encode(hash.as_ref()));
        let why = format!("the signature is for content with the hash {other}, and this has {here}");
        return Err(Failure::new(ErrorClass::SigDigestMismatch, why));
    }
    if !signature.is_by_key {
        return Err(Failure::new(ErrorClass::SigNoMatch, "the signature was made with a certificate, not with a key"));
    }
    let trusted: Vec<_> = keys.iter().map(|key| short(&key.fingerprint())).collect();
    let why = format!("no trusted key ({}) made the signature over this content", trusted.join(", "));
    Err(Failure::new(ErrorClass::SigNoMatch, why))
}

impl<'a> Ed25519Check<'a> {
    /// None if the key is of another kind, or the signature can't be one of such a key.
    fn new(key: &'a PublicKey, signature: &[u8]) -> Option<Self> {
        let verifying = key.ed25519()?;
        let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
        let pure = verifying.verify_stream(&signature).ok()?;
        Some(Self { key, verifying, pure, prehashed: Sha512::new() })
    }

    /// Returns the key if it signed.
    fn finish(self, signature: &[u8]) -> Option<&'a PublicKey> {
        let Self { key, verifying, pure, prehashed } = self;
        let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
        let is_signed =
            pure.finalize_and_verify().is_ok() || verifying.verify_prehashed(prehashed, None, &signature).is_ok();
        is_signed.then_some(key)
    }
}

impl std::fmt::Debug for BlobVerifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobVerifier({:?})", self.signature.form())
    }
}

#[cfg(test)]
mod tests;
