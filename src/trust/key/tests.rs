use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _};

use super::*;
use crate::trust::signing_key::SigningKey;

const KEY_A: &[u8] = include_bytes!("../../../tests/verify-vectors/keys/keyA.pub");

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/verify-vectors/keys/", $name))
    };
}

fn refusal(pem: &[u8]) -> String {
    let error = PublicKey::from_pem(pem).unwrap_err();
    assert_eq!((error.kind(), ErrorClass::of(&error)), (Kind::Usage, Some(ErrorClass::KeyInvalid)));
    error.chain()
}

#[test]
fn every_key_is_what_it_is() {
    for (pem, scheme) in [
        (KEY_A, KeyScheme::EcdsaP256),
        (vector!("keyp384.pub"), KeyScheme::EcdsaP384),
        (vector!("keyp521.pub"), KeyScheme::EcdsaP521),
        (vector!("keyed25519.pub"), KeyScheme::Ed25519),
        (vector!("rsa2048.pub"), KeyScheme::Rsa),
    ] {
        let key = PublicKey::from_pem(pem).unwrap();
        assert_eq!(key.scheme(), scheme);
        assert_eq!(pem::encode("PUBLIC KEY", key.spki()).as_bytes(), pem, "{scheme:?}");
    }
    // The hint in cosign's bundles is this hash.
    let hint = "3S/x7x+x9jlI9fMkdhlE8fwKN+myiP8Nkwea5hQRNAA=";
    let expected = hex::encode(STANDARD.decode(hint).unwrap());
    assert_eq!(PublicKey::from_pem(KEY_A).unwrap().fingerprint(), expected);
}

#[test]
fn an_rsa_key_is_the_same_key_in_either_form() {
    let spki = PublicKey::from_pem(vector!("rsa2048.pub")).unwrap();
    let pkcs1 = &spki.spki()[24..];
    let other = PublicKey::from_pem(pem::encode("RSA PUBLIC KEY", pkcs1).as_bytes()).unwrap();
    assert_eq!(other.fingerprint(), spki.fingerprint());
    refusal(pem::encode("RSA PUBLIC KEY", spki.spki()).as_bytes());
    refusal(pem::encode("PUBLIC KEY", pkcs1).as_bytes());
}

#[test]
fn a_private_key_is_named_as_such() {
    for pem in [&vector!("keyA.N65536.key")[..], vector!("keyA.cosignlabel.key")] {
        assert!(refusal(pem).contains("it holds a private key (ENCRYPTED"));
    }
    let key = SigningKey::generate().unwrap();
    let private = pem::encode("PRIVATE KEY", &key.to_pkcs8().unwrap());
    assert!(refusal(private.as_bytes()).contains("KEY_INVALID: it holds a private key (PRIVATE KEY)"));
}

#[test]
fn keys_outside_the_list_are_refused() {
    assert!(refusal(vector!("rsa1024.pub")).contains("RSA 2048, 3072, 4096"));
    refusal(b"");
    refusal(b"ssh-ed25519 AAAA");
    assert!(refusal(pem::encode("CERTIFICATE", b"x").as_bytes()).contains("it holds a CERTIFICATE"));
    let spki = PublicKey::from_pem(KEY_A).unwrap().spki().to_vec();
    let point = &spki[26..];
    refusal(pem::encode("PUBLIC KEY", point).as_bytes());
    let mut trailing = spki.clone();
    trailing.push(0);
    refusal(pem::encode("PUBLIC KEY", &trailing).as_bytes());
    let mut off_the_curve = spki;
    *off_the_curve.last_mut().unwrap() ^= 1;
    refusal(pem::encode("PUBLIC KEY", &off_the_curve).as_bytes());
    // The neutral element: with it every signature of a certain form would verify.
    let mut small_order = PublicKey::from_pem(vector!("keyed25519.pub")).unwrap().spki().to_vec();
    small_order[12..].fill(0);
    small_order[12] = 1;
    refusal(pem::encode("PUBLIC KEY", &small_order).as_bytes());
}

#[test]
fn rsa_sizes_between_the_allowed_ones_are_refused() {
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    let pem = |size| {
        let pair = KeyPair::generate(size).unwrap();
        pem::encode("RSA PUBLIC KEY", pair.public_key().as_ref())
    };
    assert!(PublicKey::from_pem(pem(KeySize::Rsa3072).as_bytes()).is_ok());
    let mut odd = PublicKey::from_pem(pem(KeySize::Rsa2048).as_bytes()).unwrap().spki()[24..].to_vec();
    // The modulus begins after two headers and a zero: a smaller top byte makes it 2047 bits.
    assert_eq!(odd[8], 0);
    odd[9] = 0x7f;
    refusal(pem::encode("RSA PUBLIC KEY", &odd).as_bytes());
}

/// A third party's test vector: made by cosign, published with another implementation's tests.
#[test]
fn a_signature_that_cosign_made_verifies() {
    let der = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENptdY/l3nB0yqkXLBWkZWQwo6+cuOSWS1X9vPavpiQOoTTGC0xX57OojUadxF1cdQmrsiReWg2Wn4FneJfa8xw==";
    let key = PublicKey::from_pem(pem::encode("PUBLIC KEY", &STANDARD.decode(der).unwrap()).as_bytes()).unwrap();
    let message = br#"{"critical":{"identity":{"docker-reference":"registry-testing.svc.lan/busybox"},"image":{"docker-manifest-digest":"sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b"},"type":"cosign container image signature"},"optional":null}"#;
    let signature = "MEUCIQD6q/COgzOyW0YH1Dk+CCYSt4uAhm3FDHUwvPI55zwnlwIgE0ZK58ZOWpZw8YVmBapJhBqCfdPekIknimuO0xH8Jh8=";
    let signature = STANDARD.decode(signature).unwrap();
    assert!(key.verifies(message, &signature));
    assert!(!key.verifies(&message[1..], &signature));
    assert!(!PublicKey::from_pem(KEY_A).unwrap().verifies(message, &signature));
}

#[test]
fn p521_signatures_verify_with_either_hash() {
    use aws_lc_rs::signature::{ECDSA_P521_SHA256_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING};
    for algorithm in [&ECDSA_P521_SHA512_ASN1_SIGNING, &ECDSA_P521_SHA256_ASN1_SIGNING] {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let key = PublicKey::from_pem(pem::encode("PUBLIC KEY", spki.as_ref()).as_bytes()).unwrap();
        assert!(key.verifies(b"hello", pair.sign(&SystemRandom::new(), b"hello").unwrap().as_ref()));
    }
}

#[test]
fn a_raw_signature_is_refused() {
    use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = SigningKey::generate().unwrap();
    let raw = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.to_pkcs8().unwrap()).unwrap();
    let signature = raw.sign(&SystemRandom::new(), b"hello").unwrap();
    assert_eq!(signature.as_ref().len(), 64);
    let public = PublicKey::from_pem(key.public_pem().unwrap().as_bytes()).unwrap();
    assert!(!public.verifies(b"hello", signature.as_ref()));
}

/// Returns an RSA key pair, and its public half under the algorithm identifier `mark`.
fn marked(mark: &[u8]) -> (aws_lc_rs::rsa::KeyPair, Vec<u8>) {
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let content = [mark, &spki.as_ref()[19..]].concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    (pair, [&[0x30, 0x82], &length[..], &content].concat())
}

fn signed_with(pair: &aws_lc_rs::rsa::KeyPair, padding: &'static dyn aws_lc_rs::signature::RsaEncoding) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), b"hello", &mut signature).unwrap();
    signature
}

/// The algorithm identifiers of RSA keys as `openssl genpkey` writes them: plain, for PSS, and for PSS with SHA-256 alone.
const PLAIN: &str = "300d06092a864886f70d0101010500";
const PSS: &str = "300b06092a864886f70d01010a";
const PSS_SHA256: &str = "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120";

#[test]
fn only_a_key_that_is_marked_for_pss_verifies_pss_and_it_verifies_nothing_else() {
    use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RSA_PSS_SHA384};
    for (mark, scheme) in [(PLAIN, KeyScheme::Rsa), (PSS, KeyScheme::RsaPss), (PSS_SHA256, KeyScheme::RsaPss)] {
        let (pair, spki) = marked(&hex::decode(mark).unwrap());
        let key = PublicKey::from_pem(pem::encode("PUBLIC KEY", &spki).as_bytes()).unwrap();
        assert_eq!((key.scheme(), key.spki()), (scheme, &spki[..]), "a key is named by the file that holds it");
        let (pkcs1, pss) = (signed_with(&pair, &RSA_PKCS1_SHA256), signed_with(&pair, &RSA_PSS_SHA256));
        assert_eq!(key.verifies(b"hello", &pkcs1), scheme == KeyScheme::Rsa);
        assert_eq!(key.verifies(b"hello", &pss), scheme == KeyScheme::RsaPss);
        assert!(!key.verifies(b"hullo", &pss) && !key.verifies(b"hello", &signed_with(&pair, &RSA_PSS_SHA384)));
    }
}

#[test]
fn marks_of_other_kinds_and_broken_ones_are_refused() {
    let good = hex::decode(PSS_SHA256).unwrap();
    for (old, new) in [("a203020120", "a203020130"), ("650304020105", "650304020205")] {
        let other = PSS_SHA256.replacen(old, new, 1);
        refusal(pem::encode("PUBLIC KEY", &marked(&hex::decode(other).unwrap()).1).as_bytes());
    }
    let (_, mut spki) = marked(&good);
    refusal(pem::encode("RSA PUBLIC KEY", &spki).as_bytes());
    spki.push(0);
    refusal(pem::encode("PUBLIC KEY", &spki).as_bytes());
    spki.truncate(100);
    refusal(pem::encode("PUBLIC KEY", &spki).as_bytes());
    // A key that is too short, with the mark: refused as without the mark.
    let short = pem::decode(vector!("rsa1024.pub")).unwrap().1;
    let content = [&hex::decode(PSS).unwrap()[..], &short[18..]].concat();
    let short = [&[0x30, 0x81, u8::try_from(content.len()).unwrap()], &content[..]].concat();
    refusal(pem::encode("PUBLIC KEY", &short).as_bytes());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(der in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        proptest::prop_assert!(PublicKey::from_pem(&der).is_err());
        proptest::prop_assert!(PublicKey::from_pem(pem::encode("PUBLIC KEY", &der).as_bytes()).is_err());
    }

    #[test]
    fn a_flipped_bit_is_never_the_same_key(at in 0usize..91, bit in 0u8..8) {
        let good = PublicKey::from_pem(KEY_A).unwrap();
        let mut der = good.spki().to_vec();
        der[at] ^= 1 << bit;
        if let Ok(other) = PublicKey::from_pem(pem::encode("PUBLIC KEY", &der).as_bytes()) {
            proptest::prop_assert_ne!(other.fingerprint(), good.fingerprint());
        }
    }

    #[test]
    fn no_signature_bytes_verify_by_chance(signature in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
        proptest::prop_assert!(!PublicKey::from_pem(KEY_A).unwrap().verifies(b"hello", &signature));
        proptest::prop_assert!(!PublicKey::from_pem(vector!("keyed25519.pub")).unwrap().verifies(b"hello", &signature));
    }
}
