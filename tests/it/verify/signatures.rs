//! Verification of signatures against registries that lie, refuse, and send long answers: the cases that the vectors cannot
//! express.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::time::Duration;

use autonomy_registry::error::Kind;
use autonomy_registry::oci::{Descriptor, MediaType, Name};
use autonomy_registry::store::{MAX_MANIFEST_BYTES, Store};
use autonomy_registry::trust::artifact::{self, Attachment};
use autonomy_registry::trust::{sigstore_bundle, simple_signing};
use autonomy_registry::verify::{
    Approved, Candidate, Clock, ErrorClass, Evidence, Failure, IdentityRule, MAX_REFERRERS, Pipeline, PublicKey,
    SigningKey, Step, TrustTime, VerifyReport, signature_tag,
};
use jiff::Timestamp;
use testkit::verify_bench::{Bench, NOW, RECENT, STALE, public, reference, time};
use testkit::verify_site::Referrers;

#[tokio::test]
async fn a_legacy_signature_costs_two_requests_and_a_bundle_four() {
    let bench = Bench::new().await;
    let subject = Candidate::new(reference(), bench.image.clone());
    let pipeline = Pipeline::new(bench.demands.clone());
    let referrer = bench.attach_bundle(&bench.image, &bench.key, Some(RECENT)).await;
    let report = pipeline.run(&bench.site, &subject).await.unwrap();
    assert_eq!(report.evidence(), [Evidence::Referrer { node: referrer }]);
    let words: Vec<_> = bench.site.log().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(words, ["tag", "referrers", "digest", "blob"]);

    let bench = Bench::new().await;
    let node = bench.sign(&bench.image, Some(RECENT)).await;
    bench.attach_bundle(&bench.image, &bench.key, Some(RECENT)).await;
    let pipeline = Pipeline::new(bench.demands.clone());
    let subject = Candidate::new(reference(), bench.image.clone());
    let report = pipeline.run(&bench.site, &subject).await.unwrap();
    let tag = signature_tag(&bench.image.digest).unwrap();
    assert_eq!(bench.site.log().len(), 2, "{:?}", bench.site.log());
    assert_eq!(report.evidence(), [Evidence::Tagged { tag, node, layer: 0 }]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_cannot_be_asked_is_never_a_registry_without_signatures() {
    for start in ["tag sha256-", "referrers", "blob", "tag v1-lock", "tag v1", "digest"] {
        for kind in [Kind::Denied, Kind::Unavailable, Kind::Invalid] {
            let mut bench = Bench::sealed().await;
            if start == "digest" {
                bench = Bench::new().await;
                bench.attach_bundle(&bench.image, &bench.key, Some(RECENT)).await;
            }
            bench.site.refuse.insert(start, kind);
            let error = bench.try_run().await.expect_err(start);
            assert_eq!((error.kind(), error.kind().exit_code()), (kind, 4), "{start}");
            assert_eq!(ErrorClass::of(&error), Some(ErrorClass::Transport));
        }
    }
}

#[tokio::test]
async fn damaged_and_endless_signature_objects_are_failures_with_a_class() {
    for (start, kind, expected) in [
        ("tag sha256-", Kind::Corrupt, ErrorClass::BlobDigest),
        ("tag sha256-", Kind::Limit, ErrorClass::SigLimit),
        ("referrers", Kind::Limit, ErrorClass::SigLimit),
    ] {
        let mut bench = Bench::new().await;
        bench.site.refuse.insert(start, kind);
        assert_eq!(bench.class().await, Some(expected), "{start} {kind}");
    }
    let mut bench = Bench::new().await;
    bench.site.refuse.insert("tag sha256-", Kind::Corrupt);
    bench.attach_bundle(&bench.image, &bench.key, Some(RECENT)).await;
    assert_eq!(bench.class().await, None, "one damaged object does not hide a good one");
}

#[tokio::test]
async fn a_tag_that_moves_after_it_was_resolved_changes_nothing() {
    let bench = Bench::new().await;
    bench.sign(&bench.image, Some(RECENT)).await;
    let subject = Candidate::resolve(&bench.site, &reference(), &bench.demands).await.unwrap();
    bench.site.manifest(r#"{"schemaVersion":2,"layers":[],"annotations":{"evil":"1"}}"#, &["v1"]).await;
    let report = Pipeline::new(bench.demands.clone()).run(&bench.site, &subject).await.unwrap();
    assert_eq!(report.clone().approve().unwrap().digest(), Some(bench.image.digest));
    assert_eq!(bench.site.count("tag v1"), 1, "the tag is resolved once");
    let now = bench.site.memory.resolve(&Name::Tag("v1".parse().unwrap())).await.unwrap();
    assert!(!report.approve().unwrap().covers(&now.digest));
}

#[tokio::test]
async fn demands_met_by_different_signatures_do_not_add_up() {
    let mut bench = Bench::new().await;
    let other = Descriptor::of(MediaType::OCI_MANIFEST, b"another image");
    // Right digest without a time; recent, but for another image; recent and right, but by a stranger.
    let stranger = SigningKey::generate().unwrap();
    let foreign = simple_signing::legacy(&reference().repository, &bench.image.digest, Some(time(RECENT)));
    let foreign = (foreign.clone(), stranger.sign(&foreign).unwrap());
    let signatures = [bench.signed(&bench.image, None), bench.signed(&other, Some(RECENT)), foreign];
    bench.attach_legacy(&bench.image, &signatures).await;
    bench.attach_bundle(&bench.image, &stranger, Some(RECENT)).await;
    bench.attach_bundle(&bench.image, &bench.key, Some(STALE)).await;
    let report = bench.run().await;
    let (step, failure) = report.failure().unwrap();
    assert_eq!((step, failure.class), (Some(Step::Signatures), ErrorClass::TimeMissing), "{report}");
    assert!(failure.detail.contains("of 5 failures"), "{report}");
    bench.demands.keys.push(public(&stranger));
    assert_eq!(bench.class().await, None, "any trusted key will do");
}

#[tokio::test]
async fn a_stale_legacy_signature_does_not_hide_a_fresh_bundle() {
    let bench = Bench::new().await;
    bench.sign(&bench.image, Some(STALE)).await;
    assert_eq!(bench.class().await, Some(ErrorClass::TimeStale));
    bench.attach_bundle(&bench.image, &bench.key, Some(RECENT)).await;
    assert_eq!(bench.class().await, None);
}

#[tokio::test]
async fn the_age_is_checked_with_this_machines_clock() {
    let mut bench = Bench::new().await;
    bench.demands.clock = Clock::System;
    bench.sign(&bench.image, Some(&Timestamp::now().to_string())).await;
    assert_eq!(bench.class().await, None);
    bench.demands.max_age = Duration::ZERO;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(bench.class().await, Some(ErrorClass::TimeStale));
    bench.demands.trust_time = TrustTime::Off;
    let report = bench.run().await;
    assert!(report.is_verified() && report.to_string().contains("weakened"), "{report}");
}

#[tokio::test]
async fn a_bundle_cannot_meet_a_demand_for_a_name() {
    let mut bench = Bench::new().await;
    bench.demands.identity = IdentityRule::MatchRepository;
    bench.attach_bundle(&bench.image, &bench.key, Some(RECENT)).await;
    assert_eq!(bench.class().await, Some(ErrorClass::SigIdentityMismatch));
    bench.sign(&bench.image, Some(RECENT)).await;
    assert_eq!(bench.class().await, None);
}

/// A legacy signature as cosign's `oci-1-1` mode attaches it; older writers leave the artifact type out.
async fn attach_as_referrer(bench: &Bench, with_type: bool, at: &str) {
    let attachment = artifact::legacy_manifest(&[], &[bench.signed(&bench.image, Some(at))]);
    let kind = "application/vnd.dev.cosign.artifact.sig.v1+json";
    let subject = serde_json::to_string(&bench.image).unwrap();
    let artifact_type = if with_type { format!(r#","artifactType":"{kind}""#) } else { String::new() };
    let manifest = String::from_utf8(attachment.manifest.to_vec()).unwrap();
    let manifest = manifest.replacen(MediaType::OCI_CONFIG.as_str(), kind, 1);
    let manifest = format!(r#"{},"subject":{subject}{artifact_type}}}"#, manifest.strip_suffix('}').unwrap());
    bench.put(&Attachment { manifest: manifest.into(), ..attachment }, &[]).await;
}

#[tokio::test]
async fn attached_legacy_signatures_are_all_read() {
    for with_type in [true, false] {
        let bench = Bench::new().await;
        attach_as_referrer(&bench, with_type, STALE).await;
        assert_eq!(bench.class().await, Some(ErrorClass::TimeStale));
        attach_as_referrer(&bench, with_type, RECENT).await;
        assert_eq!(bench.class().await, None);
    }
}

#[tokio::test]
async fn lists_that_lie_about_types_and_name_what_is_not_there_are_read_through() {
    let mut bench = Bench::new().await;
    bench.site.referrers = Referrers::FallbackTag;
    let good = bench.attach_bundle(&bench.image, &bench.key, Some(RECENT)).await;
    let broken = bench.site.manifest(r#"{"schemaVersion":2,"layers":[{"digest":"x"}]}"#, &[]).await;
    let lie = Descriptor { artifact_type: Some(MediaType::new("text/spdx")), ..good };
    let gone = Descriptor::of(MediaType::OCI_MANIFEST, b"deleted");
    bench.site.listed = Some(vec![gone, broken, lie]);
    assert_eq!(bench.class().await, None);
}

#[tokio::test]
async fn a_manifest_with_another_subject_is_no_referrer() {
    let mut bench = Bench::new().await;
    let statement = sigstore_bundle::statement(&bench.image.digest, Some(time(RECENT)));
    let signature = bench.key.sign(&sigstore_bundle::pae(&statement)).unwrap();
    let bytes = sigstore_bundle::build(&public(&bench.key), &statement, &signature);
    let other = Descriptor::of(MediaType::OCI_MANIFEST, b"another image");
    let node = bench.put(&artifact::bundle_manifest(&other, &bytes, time(NOW)), &[]).await;
    bench.site.listed = Some(vec![node]);
    assert_eq!(bench.class().await, Some(ErrorClass::SigNotFound));
}

#[tokio::test]
async fn entries_listed_as_image_signatures_are_read_first() {
    let mut bench = Bench::new().await;
    let good = bench.attach_bundle(&bench.image, &bench.key, Some(RECENT)).await;
    let mut listed: Vec<_> = (0..50u8).map(|n| Descriptor::of(MediaType::OCI_MANIFEST, &[n])).collect();
    for (at, node) in listed.iter_mut().enumerate() {
        let attestation =
            [("dev.sigstore.bundle.predicateType".to_owned(), "https://slsa.dev/provenance/v1".to_owned())];
        let (kind, annotations) = match at % 3 {
            0 => ("text/spdx", Default::default()),
            1 => ("application/vnd.oci.empty.v1+json", Default::default()),
            _ => (sigstore_bundle::MEDIA_TYPE, attestation.into()),
        };
        *node = Descriptor { artifact_type: Some(MediaType::new(kind)), annotations, ..node.clone() };
    }
    listed.push(Descriptor { artifact_type: Some(MediaType::new(sigstore_bundle::MEDIA_TYPE)), ..good });
    bench.site.listed = Some(listed);
    assert_eq!(bench.class().await, None);
    assert_eq!(bench.site.count("digest"), 1);
}

#[tokio::test]
async fn no_more_than_the_bounds_is_fetched() {
    let mut bench = Bench::new().await;
    let listed = |n: usize| Descriptor::of(MediaType::OCI_MANIFEST, &n.to_be_bytes());
    bench.site.listed = Some((0..10_000).map(listed).collect());
    assert_eq!(bench.class().await, Some(ErrorClass::SigLimit));
    assert_eq!(bench.site.count("digest"), MAX_REFERRERS);

    let huge = |n: usize| Descriptor { size: MAX_MANIFEST_BYTES + 1, ..listed(n) };
    bench.site.listed = Some((0..10).map(huge).collect());
    let before = bench.site.count("digest");
    assert_eq!(bench.class().await, Some(ErrorClass::SigLimit));
    assert_eq!(bench.site.count("digest"), before, "nothing that says it is too large is fetched");

    let large = |n: usize| Descriptor { size: MAX_MANIFEST_BYTES, ..listed(n) };
    bench.site.listed = Some((0..200).map(large).collect());
    assert_eq!(bench.class().await, Some(ErrorClass::SigLimit));
    assert_eq!(bench.site.count("digest") - before, 16, "64 MiB in all");
}

#[tokio::test]
async fn ten_thousand_signatures_are_refused_without_reading_one() {
    let bench = Bench::new().await;
    let signature = bench.signed(&bench.image, Some(RECENT));
    bench.attach_legacy(&bench.image, &vec![signature.clone(); 10_000]).await;
    assert_eq!(bench.class().await, Some(ErrorClass::SigLimit));
    assert_eq!(bench.site.count("blob"), 0);

    let bench = Bench::new().await;
    let stale = bench.signed(&bench.image, Some(STALE));
    bench.attach_legacy(&bench.image, &vec![stale; 100]).await;
    assert_eq!(bench.class().await, Some(ErrorClass::TimeStale));
    assert_eq!(bench.site.count("blob"), 1, "one payload under a hundred signatures is fetched once");
}

#[tokio::test]
async fn objects_that_announce_too_much_are_not_fetched() {
    for (media_type, limit) in [
        (simple_signing::MEDIA_TYPE, simple_signing::MAX_BYTES),
        (sigstore_bundle::MEDIA_TYPE, sigstore_bundle::MAX_BYTES),
    ] {
        let bench = Bench::new().await;
        let layer = Descriptor { size: limit + 1, ..Descriptor::of(MediaType::new(media_type), b"x") };
        let layer =
            Descriptor { annotations: [(simple_signing::SIGNATURE.to_owned(), "AAAA".to_owned())].into(), ..layer };
        let (layer, subject) = (serde_json::to_string(&layer).unwrap(), serde_json::to_string(&bench.image).unwrap());
        let tag = signature_tag(&bench.image.digest).unwrap();
        let manifest = format!(r#"{{"schemaVersion":2,"layers":[{layer}],"subject":{subject}}}"#);
        bench.site.manifest(manifest, &[tag.as_str()]).await;
        assert_eq!(bench.class().await, Some(ErrorClass::SigLimit), "{media_type}");
        assert_eq!(bench.site.count("blob"), 0, "{media_type}");
    }
}

#[tokio::test]
async fn line_breaks_in_a_signature_are_passed_over_and_nothing_else() {
    for (stray, expected) in [("\\r\\n", None), (" ", Some(ErrorClass::SigFormat)), ("-", Some(ErrorClass::SigFormat))]
    {
        let bench = Bench::new().await;
        let attachment = artifact::legacy_manifest(&[], &[bench.signed(&bench.image, Some(RECENT))]);
        let text = String::from_utf8(attachment.manifest.to_vec()).unwrap();
        let at = text.find("cosign/signature\":\"").unwrap() + "cosign/signature\":\"".len() + 8;
        let text = format!("{}{stray}{}", &text[..at], &text[at..]);
        let tag = signature_tag(&bench.image.digest).unwrap();
        bench.put(&Attachment { manifest: text.into(), ..attachment }, &[tag.as_str()]).await;
        assert_eq!(bench.class().await, expected, "{stray:?}");
    }
}

#[tokio::test]
async fn content_under_the_tag_that_is_no_signature_manifest_is_a_bad_format() {
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
    for text in [index.as_str(), r#"{"schemaVersion":2,"layers":[{"digest":"sha256:x"}]}"#] {
        let bench = Bench::new().await;
        let tag = signature_tag(&bench.image.digest).unwrap();
        bench.site.manifest(text.to_owned(), &[tag.as_str()]).await;
        assert_eq!(bench.class().await, Some(ErrorClass::SigFormat), "{text}");
    }
}

#[tokio::test]
async fn a_signature_whose_payload_is_gone_is_no_signature() {
    let bench = Bench::new().await;
    let attachment = artifact::legacy_manifest(&[], &[bench.signed(&bench.image, Some(RECENT))]);
    let tag = signature_tag(&bench.image.digest).unwrap();
    bench.site.manifest(attachment.manifest, &[tag.as_str()]).await;
    assert_eq!(bench.class().await, Some(ErrorClass::SigNotFound));
}

#[tokio::test]
async fn the_json_is_that_of_the_contract() {
    let mut bench = Bench::new().await;
    bench.demands.trust_time = TrustTime::Off;
    let report = serde_json::to_value(bench.run().await).unwrap();
    let digest = bench.image.digest;
    let expected = serde_json::json!({
        "reference": "site.example/app:v1",
        "digest": digest,
        "verified": false,
        "steps": [
            {"step": "signatures", "status": "failed", "class": "SIG_NOT_FOUND",
             "detail": format!("nothing that signs {digest} is attached to it")},
            {"step": "digests", "status": "skipped", "detail": "not reached: signatures failed"},
            {"step": "fingerprint", "status": "skipped", "detail": "not reached: signatures failed"},
            {"step": "semver", "status": "skipped", "detail": "not reached: signatures failed"},
        ],
        "weakened": ["trust-time off: the age of signatures is not checked (AUTONOMY_TRUST_TIME=false)"],
    });
    assert_eq!(report, expected);
    let key = PublicKey::from_pem(b"").unwrap_err();
    let failure = Failure::of(&key).unwrap();
    let early = serde_json::to_value(VerifyReport::unreached(reference(), None, failure)).unwrap();
    assert_eq!(
        early["error"],
        serde_json::json!({"class": "KEY_INVALID", "detail": "read public key: it is not PEM text"})
    );
    assert_eq!((&early["digest"], &early["verified"]), (&serde_json::Value::Null, &false.into()));
}

#[tokio::test]
async fn an_error_names_step_class_and_what_was_checked_against_what() {
    let bench = Bench::new().await;
    let other = Descriptor::of(MediaType::OCI_MANIFEST, b"another image");
    bench.attach_legacy(&bench.image, &[bench.signed(&other, Some(RECENT))]).await;
    let error = bench.run().await.approve().unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Untrusted, 3));
    let expected = format!(
        "verify site.example/app:v1: signatures: SIG_DIGEST_MISMATCH: signed is {}, verified is {}",
        other.digest, bench.image.digest
    );
    assert_eq!(error.chain(), expected);
    assert!(error.hint_text().unwrap().contains("copied from another image"));
}

#[tokio::test]
async fn a_signatures_text_cannot_drive_a_terminal() {
    let mut bench = Bench::new().await;
    bench.demands.identity = IdentityRule::MatchRepository;
    let (payload, _) = bench.signed(&bench.image, Some(RECENT));
    let evil = String::from_utf8(payload).unwrap().replace("site.example", "\\u001b[2Jsite.example\u{202e}");
    let signature = bench.key.sign(evil.as_bytes()).unwrap();
    bench.attach_legacy(&bench.image, &[(evil.into_bytes(), signature)]).await;
    let text = bench.run().await.approve().unwrap_err().chain();
    assert!(text.contains("SIG_IDENTITY_MISMATCH") && !text.contains(['\u{1b}', '\u{202e}']), "{text}");

    let bench = Bench::new().await;
    let (payload, _) = bench.signed(&bench.image, Some(RECENT));
    let evil = String::from_utf8(payload).unwrap().replace(RECENT, "\\u001b[2J\u{202e}soon");
    let signature = bench.key.sign(evil.as_bytes()).unwrap();
    bench.attach_legacy(&bench.image, &[(evil.into_bytes(), signature)]).await;
    let report = bench.run().await;
    let text = format!("{report}{}", report.clone().approve().unwrap_err().chain());
    assert!(text.contains("TIME_MALFORMED") && !text.contains(['\u{1b}', '\u{202e}']), "{text}");
}

#[tokio::test]
async fn only_a_good_report_or_a_reason_makes_an_approval() {
    let bench = Bench::new().await;
    assert!(bench.run().await.approve().is_err());
    let unchecked = Approved::unchecked("--skip-verify");
    assert!(!unchecked.is_verified() && unchecked.covers(&bench.image.digest));
    assert_eq!((unchecked.digest(), unchecked.reason()), (None, Some("--skip-verify")));
    assert!(unchecked.evidence().is_empty() && unchecked.report().is_none());
}

#[tokio::test]
async fn without_a_key_nothing_verifies() {
    let mut bench = Bench::new().await;
    bench.sign(&bench.image, Some(RECENT)).await;
    bench.demands.keys.clear();
    assert_eq!(bench.class().await, Some(ErrorClass::SigNoMatch));
}
