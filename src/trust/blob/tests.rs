use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
};

use super::*;
use crate::trust::blob_signature::{BlobForm, MAX_BYTES};

const CONTENT: &[u8] = b"content that does not fit in one piece";

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Vec<u8> {
    EcdsaKeyPair::generate(algorithm).unwrap().to_pkcs8v1().unwrap().as_ref().to_vec()
}

fn ed25519() -> SigningKey {
    SigningKey::from_pkcs8(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref()).unwrap()
}

/// A key of each kind.
fn keys() -> Vec<SigningKey> {
    let rsa: Pkcs8V1Der<'_> = KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
    let others =
        [ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING), ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING), rsa.as_ref().to_vec()];
    let mut keys: Vec<_> = others.iter().map(|pkcs8| SigningKey::from_pkcs8(pkcs8).unwrap()).collect();
    keys.extend([SigningKey::generate().unwrap(), ed25519()]);
    keys
}

fn signed(key: &SigningKey, content: &[u8]) -> BlobSeal {
    let feed = |sink: &mut Sink<'_>| {
        content.chunks(7).for_each(sink);
        Ok(())
    };
    sign(key, feed).unwrap()
}

fn verdict(file: &[u8], keys: &[PublicKey], content: &[u8]) -> BlobVerdict {
    let signature = BlobSignature::parse(file).unwrap();
    let mut verifier = BlobVerifier::new(&signature, keys);
    content.chunks(5).for_each(|piece| verifier.update(piece));
    verifier.finish()
}

fn class(file: &[u8], keys: &[PublicKey], content: &[u8]) -> ErrorClass {
    verdict(file, keys, content).signer.unwrap_err().class
}

#[test]
fn a_key_of_each_kind_signs_in_pieces_and_only_it_verifies_only_this_content() {
    let stranger = [SigningKey::generate().unwrap().public_key().unwrap()];
    for key in keys() {
        let public = [stranger[0].clone(), key.public_key().unwrap()];
        let seal = signed(&key, CONTENT);
        assert_eq!(seal.digest, Digest::sha256(CONTENT));
        let verdict = verdict(&seal.bundle, &public, CONTENT);
        assert_eq!((verdict.digest, verdict.signer), (seal.digest, Ok(public[1].fingerprint())));
        assert_eq!(class(&seal.bundle, &stranger, CONTENT), ErrorClass::SigNoMatch);
        let other = class(&seal.bundle, &public, b"other content");
        // Pure Ed25519 signs no hash: nothing says that the key signed other content.
        let is_ed25519 = public[1].scheme() == KeyScheme::Ed25519;
        let expected = if is_ed25519 { ErrorClass::SigNoMatch } else { ErrorClass::SigDigestMismatch };
        assert_eq!(other, expected, "{:?}", public[1].scheme());
        let whole = key.sign(CONTENT).unwrap();
        assert!(public[1].verifies(CONTENT, &whole), "one scheme for images and files");
        let bare = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, whole);
        assert!(self::verdict(bare.as_bytes(), &public, CONTENT).signer.is_ok());
    }
}

#[test]
fn signatures_that_cosign_made_are_verified_in_every_form() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blob-vectors");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let content = read("hello");
    for kind in ["p256", "p384", "p521", "ed25519", "rsa"] {
        let key = [PublicKey::from_pem(&read(&format!("{kind}.pub"))).unwrap()];
        for (form, name) in [(BlobForm::Bundle, "sigstore.json"), (BlobForm::Legacy, "legacy.json")] {
            let file = read(&format!("{kind}.{name}"));
            assert_eq!(BlobSignature::parse(&file).unwrap().form(), form);
            assert_eq!(verdict(&file, &key, &content).signer, Ok(key[0].fingerprint()), "{kind} {name}");
            let why = class(&file, &key, b"hullo\n");
            assert!([ErrorClass::SigNoMatch, ErrorClass::SigDigestMismatch].contains(&why), "{kind} {name}");
        }
    }
    let key = [PublicKey::from_pem(&read("p256.pub")).unwrap()];
    assert!(verdict(&read("p256.sig"), &key, &content).signer.is_ok());
}

#[test]
fn what_is_built_is_what_cosign_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blob-vectors");
    let theirs = std::fs::read_to_string(folder.join("p256.sigstore.json")).unwrap();
    let parsed = BlobSignature::parse(theirs.as_bytes()).unwrap();
    let key = PublicKey::from_pem(&std::fs::read(folder.join("p256.pub")).unwrap()).unwrap();
    let ours = blob_signature::build(&key, parsed.declared.unwrap().as_ref(), &parsed.signature);
    // protobuf's JSON has white space at places that change.
    assert_eq!(String::from_utf8(ours).unwrap(), theirs.replace(", ", ","));
}

#[test]
fn content_that_changes_between_the_passes_is_not_signed() {
    let key = ed25519();
    let mut passes = 0;
    let changing = sign(&key, |sink| {
        passes += 1;
        sink(format!("pass {passes}").as_bytes());
        Ok(())
    });
    assert!(changing.unwrap_err().chain().contains("the content changed while it was read"));
    assert_eq!(passes, 2);
    for key in [key, SigningKey::generate().unwrap()] {
        let failing = sign(&key, |_| Err(Error::new(Kind::Corrupt, "read")));
        assert_eq!(failing.unwrap_err().kind(), Kind::Corrupt);
    }
}

/// The bundle of [`CONTENT`] by `key`, with one text replaced.
fn changed(key: &SigningKey, from: &str, to: &str) -> Vec<u8> {
    let bundle = String::from_utf8(signed(key, CONTENT).bundle).unwrap();
    assert!(bundle.contains(from), "{bundle}");
    bundle.replace(from, to).into_bytes()
}

#[test]
fn the_hash_in_the_file_must_be_that_of_the_content() {
    let key = SigningKey::generate().unwrap();
    let public = [key.public_key().unwrap()];
    let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, Digest::sha256(CONTENT).as_bytes());
    let other = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, Digest::sha256(b"x").as_bytes());
    assert_eq!(class(&changed(&key, &hash, &other), &public, CONTENT), ErrorClass::SigDigestMismatch);
    let without = format!(r#""messageDigest":{{"algorithm":"SHA2_256","digest":"{hash}"}},"#);
    for to in ["", r#""messageDigest":{},"#, &without.replace("SHA2_256", "1").replace("\"1\"", "1")] {
        assert!(verdict(&changed(&key, &without, to), &public, CONTENT).signer.is_ok(), "{to}");
    }
    for to in ["SHA2_384", "SHA1", ""] {
        let file = changed(&key, "SHA2_256", to);
        assert_eq!(BlobSignature::parse(&file).unwrap_err().class, ErrorClass::SigFormat, "{to}");
    }
}

#[test]
fn a_certificate_does_not_stand_for_a_key() {
    let key = SigningKey::generate().unwrap();
    let bundle = String::from_utf8(signed(&key, CONTENT).bundle).unwrap();
    let start = bundle.find(r#""publicKey""#).unwrap();
    let end = start + bundle[start..].find('}').unwrap() + 1;
    let file = bundle.replace(&bundle[start..end], r#""certificate":{"rawBytes":"AA=="}"#);
    assert_eq!(class(file.as_bytes(), &[key.public_key().unwrap()], CONTENT), ErrorClass::SigNoMatch);
}

#[test]
fn other_files_are_refused_before_any_content_is_read() {
    let key = SigningKey::generate().unwrap();
    for (file, expected) in [
        (Vec::new(), ErrorClass::SigFormat),
        (b" \n".to_vec(), ErrorClass::SigFormat),
        (b"not base64!".to_vec(), ErrorClass::SigFormat),
        (b"{}".to_vec(), ErrorClass::SigFormat),
        (b"{".to_vec(), ErrorClass::SigFormat),
        (br#"{"base64Signature":"AA==","other":1}"#.to_vec(), ErrorClass::SigFormat),
        (br#"{"base64Signature":"AA==","base64Signature":"AA=="}"#.to_vec(), ErrorClass::SigFormat),
        (changed(&key, "v0.3", "v0.4"), ErrorClass::SigFormat),
        (changed(&key, "messageSignature", "dsseEnvelope"), ErrorClass::SigFormat),
        (vec![b'A'; MAX_BYTES + 1], ErrorClass::SigLimit),
    ] {
        let why = BlobSignature::parse(&file).unwrap_err();
        assert_eq!(why.class, expected, "{}", String::from_utf8_lossy(&file).chars().take(99).collect::<String>());
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
        let _ = BlobSignature::parse(&bytes);
    }

    #[test]
    fn no_text_of_a_bundle_is_verified_by_a_key_that_did_not_sign(
        text in r#"(\{|\}|"base64Signature":|"messageSignature":|"AA=="|,|"mediaType":|[A-Za-z0-9+/=]{4}){0,8}"#
    ) {
        if let Ok(signature) = BlobSignature::parse(text.as_bytes()) {
            let key = [SigningKey::generate().unwrap().public_key().unwrap()];
            proptest::prop_assert!(BlobVerifier::new(&signature, &key).finish().signer.is_err());
        }
    }
}
