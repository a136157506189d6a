//! Properties of payloads, bundles and key files that hold for any bytes.

use std::sync::LazyLock;

use serde_json::Value;

use super::SigningKey;
use super::requirements::{Demands, Freshness, TrustTime};
use crate::clock::Clock;
use crate::document::fuzzing::{elsewhere, is_private};
use crate::document::json;
use crate::error::{Kind, LONGEST_TEXT, printable};
use crate::oci::{Digest, Reference};
use crate::trust::blob::BlobVerifier;
use crate::trust::blob_signature::BlobSignature;
use crate::trust::claim::{Claim, SIGNED_AT};
use crate::trust::failure::{ErrorClass, Failure};
use crate::trust::key::PublicKey;
use crate::trust::sigstore_bundle::{self, Envelope, MAX_SUBJECTS, PAYLOAD_TYPE};
use crate::trust::{key_file, pem, simple_signing as legacy};

/// The digest that the seeds of the corpora are about, and the key that signed them.
const SUBJECT: &str = "sha256:cff63a9b0b189864419c222c2b65bfcf6f004ed2cd3c8d78fe8eca9dee6c07de";
const TRUSTED: &[u8] = include_bytes!("../../tests/verify-vectors/keys/keyA.pub");

static SUBJECT_DIGEST: LazyLock<Digest> = LazyLock::new(|| SUBJECT.parse().expect("a digest"));
static KEYS: LazyLock<[PublicKey; 1]> = LazyLock::new(|| [PublicKey::from_pem(TRUSTED).expect("a public key")]);
/// New in each process, so that it cannot have signed any input.
static OWN: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().expect("a signing key"));

/// Checks that an independent parser reads the same digest, name and time from an accepted payload, and no other
/// digest.
pub(crate) fn payload(bytes: &[u8]) {
    match legacy::read(bytes, &SUBJECT_DIGEST) {
        Ok(claim) => {
            let whole = independent(bytes);
            let critical = &whole["critical"];
            assert_eq!(critical["image"]["docker-manifest-digest"], SUBJECT);
            assert_eq!(critical["identity"]["docker-reference"].as_str(), claim.identity.as_deref());
            assert_eq!(whole["optional"].get(SIGNED_AT), claim.signed_at.as_ref());
            let other = legacy::read(bytes, &Digest::sha256(b"other")).expect_err("it is about one digest");
            assert_eq!(other.class, ErrorClass::SigDigestMismatch);
            demanded(&claim);
        }
        Err(failure) => {
            told(&failure, &[ErrorClass::SigFormat, ErrorClass::SigPayloadType, ErrorClass::SigDigestMismatch])
        }
    }
}

/// Returns the value as another parser reads it.
fn independent(bytes: &[u8]) -> Value {
    match json::parse(bytes) {
        Ok(ours) if is_private(&ours) => ours,
        _ => elsewhere(bytes).expect("JSON to us is JSON to everybody"),
    }
}

/// Checks that only a time within the limits is accepted, and that only a claim without a time may have none.
fn demanded(claim: &Claim) {
    let now = "2026-06-01T00:00:00Z".parse().expect("a time");
    let demands = Demands { clock: Clock::Fixed(now), ..Demands::new(Vec::new()) };
    let repository = format!("r.example/a@{SUBJECT}").parse::<Reference>().expect("a reference").repository;
    for freshness in [Freshness::Demanded, Freshness::IfSaid] {
        match demands.check(claim, &repository, freshness) {
            Ok(Some(time)) => {
                let age = now.duration_since(time);
                assert!(age.as_secs() <= 8760 * 3600 && age.as_secs() >= -300, "{time}");
            }
            Ok(None) => assert!(claim.signed_at.is_none() && freshness == Freshness::IfSaid),
            Err(failure) => {
                let classes =
                    [ErrorClass::TimeMissing, ErrorClass::TimeMalformed, ErrorClass::TimeStale, ErrorClass::TimeFuture];
                told(&failure, &classes);
            }
        }
    }
    let off = Demands { trust_time: TrustTime::Off, ..demands };
    assert!(off.check(claim, &repository, Freshness::Demanded).is_ok());
}

/// Checks that an envelope matches its bytes, and that a signature covers everything that is read from it.
pub(crate) fn bundle(bytes: &[u8]) {
    match Envelope::parse(bytes) {
        Ok(envelope) => {
            assert!(envelope.payload.len() + envelope.signature.len() <= bytes.len());
            let again = sigstore_bundle::build(&KEYS[0], &envelope.payload, &envelope.signature);
            let again = Envelope::parse(&again).expect("what is built can be read");
            assert_eq!((&again.payload, &again.signature), (&envelope.payload, &envelope.signature));
            signed(&envelope);
            statement(&envelope);
        }
        Err(failure) => told(&failure, &[ErrorClass::SigFormat, ErrorClass::SigLimit]),
    }
    // The statement alone, so that a mutation need not pass through base64.
    let payload = bytes.to_vec();
    statement(&Envelope {
        payload_type: PAYLOAD_TYPE.into(),
        payload,
        signature: Vec::new(),
        is_by_key: true,
        entries: Vec::new(),
    });
}

/// Checks that no signature of a file is one of a key that did not sign it.
pub(crate) fn blob(bytes: &[u8]) {
    match BlobSignature::parse(bytes) {
        Ok(signature) => {
            let own = [OWN.public_key().expect("a public key")];
            let mut verifier = BlobVerifier::new(&signature, &own);
            verifier.update(bytes);
            let failure = verifier.finish().signer.expect_err("this key has signed no file");
            told(&failure, &[ErrorClass::SigNoMatch, ErrorClass::SigDigestMismatch]);
        }
        Err(failure) => told(&failure, &[ErrorClass::SigFormat, ErrorClass::SigLimit]),
    }
}

fn signed(envelope: &Envelope) {
    assert!(envelope.signer(&[]).is_none());
    if envelope.signer(KEYS.as_slice()).is_none() {
        return;
    }
    assert!(envelope.is_by_key, "a certificate does not stand for a key");
    let changes: [fn(&mut Envelope); 5] = [
        |changed| changed.payload.push(b' '),
        |changed| changed.payload.insert(0, b' '),
        |changed| changed.payload_type.push('x'),
        |changed| changed.signature.clear(),
        |changed| changed.is_by_key = false,
    ];
    for change in changes {
        let mut changed = envelope.clone();
        change(&mut changed);
        assert!(changed.signer(KEYS.as_slice()).is_none(), "{changed:?}");
    }
}

fn statement(envelope: &Envelope) {
    match envelope.read(&SUBJECT_DIGEST) {
        Ok(claim) => {
            assert_eq!(envelope.payload_type, PAYLOAD_TYPE);
            let whole = independent(&envelope.payload);
            assert_eq!(whole["predicateType"], sigstore_bundle::PREDICATE_TYPE);
            let subjects = whole["subject"].as_array().expect("a list of subjects");
            assert!(subjects.len() <= MAX_SUBJECTS);
            let named = subjects.iter().find(|subject| subject["digest"]["sha256"] == SUBJECT_DIGEST.hex());
            let named = named.expect("the digest stands among the subjects");
            assert_eq!(named["annotations"].get(SIGNED_AT), claim.signed_at.as_ref());
            demanded(&claim);
        }
        Err(failure) => {
            let classes = [
                ErrorClass::SigFormat,
                ErrorClass::SigLimit,
                ErrorClass::SigPayloadType,
                ErrorClass::SigDigestMismatch,
            ];
            told(&failure, &classes);
        }
    }
}

/// Checks that an accepted key file holds one key in its one encoding; an encrypted one asks for no more work than is
/// allowed.
///
/// Stops after the decision on the work: deriving the key takes a tenth of a second, and is not a parser.
pub(crate) fn key_file(bytes: &[u8]) {
    public(bytes, None);
    public(pem::encode("PUBLIC KEY", bytes).as_bytes(), Some(bytes));
    public(pem::encode("RSA PUBLIC KEY", bytes).as_bytes(), None);
    let classes = [ErrorClass::KeyInvalid, ErrorClass::KeyKdfParams];
    for file in [bytes, pem::encode(key_file::LABEL, bytes).as_bytes()] {
        match key_file::read(file) {
            Ok(sealed) => sealed.assert_bounds(),
            Err(failure) => told(&failure, &classes),
        }
    }
    if bytes.len() < pem::MAX_BYTES / 2 {
        let text = pem::encode("X", bytes);
        assert_eq!(pem::decode(text.as_bytes()), Ok(("X".to_owned(), bytes.to_vec())));
        assert_eq!(pem::decode(text.replace('\n', "\r\n").as_bytes()), Ok(("X".to_owned(), bytes.to_vec())));
    }
    if let Ok(key) = SigningKey::from_pkcs8(bytes) {
        let public = key.public_key().expect("a key has a public half");
        assert!(public.verifies(b"x", &key.sign(b"x").expect("a signature")));
        let again = SigningKey::from_pkcs8(&key.to_pkcs8().expect("PKCS #8")).and_then(|again| again.public_key());
        assert_eq!(again.expect("written and read again").spki(), public.spki());
    }
    let own = OWN.public_key().expect("a public key");
    assert!(!own.verifies(b"x", bytes), "a signature out of thin air");
}

fn public(file: &[u8], der: Option<&[u8]>) {
    match PublicKey::from_pem(file) {
        Ok(key) => {
            assert!(der.is_none_or(|der| der == key.spki()), "one encoding a key");
            let again =
                PublicKey::from_pem(pem::encode("PUBLIC KEY", key.spki()).as_bytes()).expect("its own encoding");
            assert_eq!((again.spki(), again.scheme()), (key.spki(), key.scheme()));
            assert!(!key.verifies(b"x", file) && !key.verifies(b"x", b"") && !key.verifies(b"", &[0; 64]));
        }
        Err(error) => {
            assert!(error.kind() == Kind::Usage && error.hint_text().is_some());
            told(&Failure::of(&error).expect("a class"), &[ErrorClass::KeyInvalid]);
        }
    }
}

fn told(failure: &Failure, classes: &[ErrorClass]) {
    assert!(classes.contains(&failure.class), "{failure}");
    assert_eq!(printable(&failure.detail), failure.detail);
    // Each byte may have become the six characters of an escape.
    assert!(failure.detail.len() <= 6 * LONGEST_TEXT + 100, "{}", failure.detail.len());
}
