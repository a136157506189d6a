//! `autonomy registry demo`, the whole tour.

use crate::kit::command::{assert_code, autonomy, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_seeds_a_bundle_and_refuses_a_forgery_at_each_step() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("tour");
    let done = autonomy(&["registry", "demo", "--out", out.to_str().unwrap()]).await;
    assert_code(&done, 0);
    let said = text(&done);
    for class in ["SIG_DIGEST_MISMATCH", "LOCK_AGENT_DIGEST", "FINGERPRINT_MISMATCH", "SEMVER_MISMATCH"] {
        assert_eq!(said.matches(class).count(), 1, "{class} in {said}");
    }
    assert_eq!(said.matches("    refused").count(), 4, "{said}");
    for step in ["signatures", "digests", "fingerprint", "semver"] {
        let ok = said.lines().filter(|line| line.contains(step) && line.contains(" ok ")).count();
        assert_eq!(ok, 2, "{step} holds at the source and at the site: {said}");
    }
    let record = std::fs::read_to_string(out.join("record/seed-manifest.json")).unwrap();
    assert!(record.contains("\"verified\": true") && record.contains("linux/riscv64"), "{record}");
    assert!(out.join("site/repositories/robot-behavior/_layout/index.json").exists());
}

#[tokio::test]
async fn the_tour_touches_no_folder_that_holds_something() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("mine"), "precious").unwrap();
    let done = autonomy(&["registry", "demo", "--out", home.path().to_str().unwrap()]).await;
    assert_code(&done, 2);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
}
