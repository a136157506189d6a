//! Verification of lock and policy: the steps after the signatures, and content in the place of a sidecar.

use autonomy_registry::document::policy_bundle;
use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name};
use autonomy_registry::store::Store;
use autonomy_registry::trust::artifact;
use autonomy_registry::verify::{
    Candidate, ErrorClass, Evidence, Pipeline, Sidecar, SidecarDemand, SidecarKind, Step, StepOutcome, VerifyReport,
};
use testkit::verify_bench::{Bench, RECENT, STALE, class, lock_for, policy_bundle, public, reference};

#[tokio::test]
async fn bundles_by_our_builders_pass_all_four_steps() {
    let bench = Bench::sealed().await;
    let report = bench.run().await;
    assert!(report.is_verified(), "{report}");
    assert!(report.steps().iter().all(|result| matches!(result.outcome, StepOutcome::Ok(_))), "{report}");
    assert_eq!(report.evidence().len(), 3, "image, lock and policy");
    let approved = report.approve().unwrap();
    assert!(approved.is_verified() && approved.covers(&bench.image.digest));
    assert!(!approved.covers(&Digest::sha256(b"other")));
}

#[tokio::test]
async fn bundles_alone_prove_image_and_sidecars() {
    let mut bench = Bench::new().await;
    let policy = policy_bundle("1.2.0");
    let sealed = lock_for(&bench.image, Digest::sha256(&policy)).to_bytes();
    let lock = bench.sidecar(SidecarKind::Lock, &sealed).await;
    let policy = bench.sidecar(SidecarKind::Policy, &policy).await;
    let mut expected = Vec::new();
    for node in [&bench.image, &lock, &policy] {
        expected.push(Evidence::Referrer { node: bench.attach_bundle(node, &bench.key, Some(RECENT)).await });
    }
    bench.demands.lock = SidecarDemand::Required;
    bench.demands.policy = SidecarDemand::Required;
    let report = bench.run().await;
    assert!(report.is_verified(), "{report}");
    assert_eq!(report.evidence(), expected);
    assert_eq!(bench.site.count("referrers"), 3, "once for the image and once for each sidecar");
}

#[tokio::test]
async fn steps_that_were_not_asked_for_are_skipped_and_never_ok() {
    let mut bench = Bench::sealed().await;
    bench.demands.policy = SidecarDemand::NotAsked;
    let report = bench.run().await;
    assert!(report.is_verified(), "{report}");
    assert!(
        matches!(&report.steps()[3].outcome, StepOutcome::Skipped(why) if why == "no policy was asked for"),
        "{report}"
    );
    bench.demands.lock = SidecarDemand::NotAsked;
    let report = bench.run().await;
    let text = report.to_string();
    let key = &public(&bench.key).fingerprint()[..12];
    let short = bench.image.digest.short();
    let expected = format!(
        "signatures   ok       key {key} signed sha256:{short} at {RECENT} (legacy, key only, no transparency log)\n\
         digests      skipped  no lock was asked for\n\
         fingerprint  skipped  no lock was asked for\n\
         semver       skipped  no lock was asked for"
    );
    assert_eq!(text, expected);
}

#[tokio::test]
async fn sidecars_are_judged_by_what_they_are() {
    let (absent, ambiguous) = (Some(ErrorClass::SidecarMissing), Some(ErrorClass::SidecarAmbiguous));
    // A lock that only refers to the image counts; two of them, or a lock that the tag does not name, do not.
    let bench = Bench::sealed().await;
    let subject = Candidate::resolve(&bench.site, &reference(), &bench.demands).await.unwrap();
    let by_digest = reference().repository.pinned(bench.image.digest);
    let again = Candidate::resolve(&bench.site, &by_digest, &bench.demands).await.unwrap();
    assert_eq!((&again.lock, &again.policy), (&subject.lock, &subject.policy), "found among the referrers");

    let attachment = artifact::sidecar_manifest(SidecarKind::Lock, &bench.image, b"{}");
    let newer = bench.put(&attachment, &[]).await;
    assert_eq!(bench.class().await, None, "the tag still names one of them");
    let two = Candidate::resolve(&bench.site, &by_digest, &bench.demands).await.unwrap();
    assert!(matches!(&two.lock, Sidecar::Ambiguous(names) if names.len() == 2));
    let listed = bench.site.memory.resolve(&Name::Digest(newer.digest)).await.unwrap();
    let artifact_type = Some(MediaType::new(SidecarKind::Lock.media_type()));
    let mut bench = bench;
    bench.site.listed = Some(vec![Descriptor { artifact_type, ..listed }]);
    assert_eq!(bench.class().await, ambiguous);

    // The image itself, and the other sidecar, in the place of a lock: signed, but no lock.
    let bench = Bench::sealed().await;
    let good = Candidate::resolve(&bench.site, &reference(), &bench.demands).await.unwrap();
    let image = bench.site.memory.fetch(&Name::Digest(bench.image.digest)).await.unwrap();
    for lock in [Sidecar::Found(Box::new(image)), good.policy.clone()] {
        let subject = Candidate { lock, ..good.clone() };
        let report = Pipeline::new(bench.demands.clone()).run(&bench.site, &subject).await.unwrap();
        assert_eq!(class(&report), absent, "{report}");
        assert_eq!(report.failure().unwrap().0, Some(Step::Digests));
    }

    // A sidecar whose manifest was not kept is fetched again by its digest, never by its tag.
    let Sidecar::Found(root) = good.lock.clone() else { panic!("{:?}", good.lock) };
    let lock = Sidecar::Known(Box::new(root.node));
    let (subject, tags) = (Candidate { lock, ..good }, bench.site.count("tag v1"));
    assert!(Pipeline::new(bench.demands.clone()).run(&bench.site, &subject).await.unwrap().is_verified());
    assert_eq!(bench.site.count("tag v1"), tags);
}

#[tokio::test]
async fn a_lock_may_go_without_a_time_but_not_with_an_old_one() {
    let bench = Bench::sealed().await;
    let subject = Candidate::resolve(&bench.site, &reference(), &bench.demands).await.unwrap();
    let Sidecar::Found(lock) = &subject.lock else { panic!("{:?}", subject.lock) };
    bench.sign(&lock.node, None).await;
    assert_eq!(bench.class().await, None);
    bench.sign(&lock.node, Some(STALE)).await;
    assert_eq!(bench.class().await, Some(ErrorClass::TimeStale));
}

/// Seals `lock` and `policy` beside a signed image, and verifies.
async fn judge(lock: impl FnOnce(&Descriptor, &[u8], Digest) -> Vec<u8>, policy: Vec<u8>) -> VerifyReport {
    let bench = Bench::sealed().await;
    let manifest = bench.sidecar(SidecarKind::Policy, &policy).await;
    bench.sign(&manifest, Some(RECENT)).await;
    let lock = bench.sidecar(SidecarKind::Lock, &lock(&bench.image, &policy, manifest.digest)).await;
    bench.sign(&lock, Some(RECENT)).await;
    bench.run().await
}

#[tokio::test]
async fn each_step_fails_by_itself_and_the_later_ones_are_not_reached() {
    let good = |image: &Descriptor, policy: &[u8], _| lock_for(image, Digest::sha256(policy)).to_bytes();
    let report = judge(|image, _, manifest| lock_for(image, manifest).to_bytes(), policy_bundle("1.2.0")).await;
    assert_eq!(class(&report), Some(ErrorClass::PolicyDigest));
    assert!(report.to_string().contains("which is the policy's OCI manifest"), "{report}");

    let report = judge(|_, _, _| b"{}".to_vec(), policy_bundle("1.2.0")).await;
    assert_eq!(class(&report), Some(ErrorClass::LockParse));

    let report = judge(good, policy_bundle("1.3.0")).await;
    assert_eq!(class(&report), Some(ErrorClass::SemverMismatch));
    assert!(matches!(report.steps()[2].outcome, StepOutcome::Ok(_)), "{report}");

    let report = judge(good, b"not an archive".to_vec()).await;
    assert_eq!(class(&report), Some(ErrorClass::SemverParse));

    let report = judge(good, policy_bundle("1.2.99")).await;
    assert!(report.is_verified(), "{report}");

    let changed = |image: &Descriptor, policy: &[u8], digest| {
        String::from_utf8(good(image, policy, digest)).unwrap().replace("\"v0\"", "\"v1\"").into_bytes()
    };
    let report = judge(changed, policy_bundle("1.2.0")).await;
    assert_eq!(class(&report), Some(ErrorClass::FingerprintMismatch));
    assert!(
        matches!(&report.steps()[3].outcome, StepOutcome::Skipped(why) if why.contains("fingerprint failed")),
        "{report}"
    );
}

#[tokio::test]
async fn a_policy_that_announces_too_much_is_not_fetched() {
    let bench = Bench::sealed().await;
    let kind = SidecarKind::Policy.media_type();
    let layer = Descriptor::new(MediaType::new(kind), Digest::sha256(b"x"), policy_bundle::MAX_BYTES + 1);
    let (layer, subject) = (serde_json::to_string(&layer).unwrap(), serde_json::to_string(&bench.image).unwrap());
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{layer}],"subject":{subject},"artifactType":"{kind}"}}"#);
    let node = bench.site.manifest(manifest, &["v1-policy"]).await;
    bench.sign(&node, Some(RECENT)).await;
    assert_eq!(bench.class().await, Some(ErrorClass::PolicyDigest));
    assert_eq!(bench.site.count(&format!("blob {}", Digest::sha256(b"x"))), 0);
}
