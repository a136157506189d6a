use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA256_ASN1, ED25519, EcdsaSigningAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};

use super::*;
use crate::trust::key::KeyScheme;

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Vec<u8> {
    EcdsaKeyPair::generate(algorithm).unwrap().to_pkcs8v1().unwrap().as_ref().to_vec()
}

fn rsa(size: KeySize) -> Vec<u8> {
    let der: Pkcs8V1Der<'_> = rsa::KeyPair::generate(size).unwrap().as_der().unwrap();
    der.as_ref().to_vec()
}

fn ed25519() -> Vec<u8> {
    Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref().to_vec()
}

#[test]
fn what_our_key_signs_its_public_half_verifies_and_no_other() {
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let public = |key: &SigningKey| key.public_key().unwrap();
    let signature = key.sign(b"hello").unwrap();
    assert!(public(&key).verifies(b"hello", &signature));
    assert!(!public(&key).verifies(b"hullo", &signature));
    assert!(!public(&other).verifies(b"hello", &signature));
    let again = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
    assert_eq!(again.public_pem().unwrap(), key.public_pem().unwrap());
    assert!(SigningKey::from_pkcs8(b"x").is_err());
}

/// Returns one key of each kind, with the algorithm that `cosign verify --key` uses for its signatures.
fn every_kind() -> Vec<(KeyScheme, Vec<u8>, &'static dyn VerificationAlgorithm)> {
    vec![
        (KeyScheme::EcdsaP384, ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING), &ECDSA_P384_SHA256_ASN1),
        (KeyScheme::EcdsaP521, ecdsa(&ECDSA_P521_SHA256_ASN1_SIGNING), &ECDSA_P521_SHA256_ASN1),
        (KeyScheme::Ed25519, ed25519(), &ED25519),
        (KeyScheme::Rsa, rsa(KeySize::Rsa2048), &RSA_PKCS1_2048_8192_SHA256),
    ]
}

#[test]
fn every_kind_signs_in_the_scheme_that_cosign_verifies() {
    for (scheme, pkcs8, algorithm) in every_kind() {
        let key = SigningKey::from_pkcs8(&pkcs8).unwrap();
        let public = key.public_key().unwrap();
        assert_eq!(public.scheme(), scheme);
        let reader = UnparsedPublicKey::new(algorithm, public.spki());
        // A hash begins with a zero byte now and then: without that byte it is another number.
        for message in 0..20u32 {
            let message = message.to_be_bytes();
            let signature = key.sign(&message).unwrap();
            assert!(reader.verify(&message, &signature).is_ok(), "{scheme:?}");
            assert!(public.verifies(&message, &signature), "{scheme:?}");
            assert!(!public.verifies(b"other", &signature), "{scheme:?}");
            let longer = UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, public.spki());
            assert!(longer.verify(&message, &signature).is_err());
        }
    }
}

#[test]
fn every_kind_survives_being_written_and_read() {
    for (scheme, pkcs8, _) in every_kind() {
        let key = SigningKey::from_pkcs8(&pkcs8).unwrap();
        let again = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(again.public_pem().unwrap(), key.public_pem().unwrap(), "{scheme:?}");
        assert!(key.public_key().unwrap().verifies(b"x", &again.sign(b"x").unwrap()), "{scheme:?}");
        assert_eq!(format!("{key:?}"), "SigningKey(…)", "nothing of a private key is ever shown");
    }
}

#[test]
fn private_keys_of_other_kinds_are_refused_with_what_is_supported() {
    use aws_lc_rs::signature::ECDSA_P256K1_SHA256_ASN1_SIGNING;
    let plain = rsa(KeySize::Rsa2048);
    // The same key, marked for PSS: cosign cannot read such a key either.
    let (oid, marked) = (hex::decode("2a864886f70d010101").unwrap(), hex::decode("2a864886f70d01010a").unwrap());
    let at = plain.windows(oid.len()).position(|bytes| bytes == oid).unwrap();
    let pss = [&plain[..at], &marked, &plain[at + oid.len()..]].concat();
    let truncated = plain[..plain.len() - 1].to_vec();
    let other_curve = ecdsa(&ECDSA_P256K1_SHA256_ASN1_SIGNING);
    let odd_length = pem::decode(include_bytes!("rsa2304.pem")).unwrap().1;
    assert!(rsa::KeyPair::from_pkcs8(&odd_length).is_ok());
    for der in [odd_length, pss, truncated, other_curve, Vec::new()] {
        let error = SigningKey::from_pkcs8(&der).unwrap_err();
        assert_eq!((error.kind(), ErrorClass::of(&error)), (Kind::Usage, Some(ErrorClass::KeyInvalid)));
        assert!(error.chain().contains("RSA 2048, 3072, 4096") && error.hint_text().is_some(), "{}", error.chain());
    }
}
