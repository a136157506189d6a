//! Rollback: previous roots that are kept, and `registry rollback`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use autonomy_registry::oci::{Digest, MediaType, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::store::Store;
use testkit::images::{self, shape};

use crate::kit::command::{assert_code, autonomy, program, publisher, seed, text};
use crate::kit::site_bed::{Bed, behaviours, holding, start, stopped};

/// One image to `site/app:v1`.
async fn one(bed: &Bed, more: &[&str]) -> std::process::Output {
    let (from, to) = (format!("{}/app:v1", bed.source.host()), format!("{}/site/app:v1", bed.sink.host()));
    let fixed = ["--skip-verify", "--accessories", "none"];
    seed(&from, &to, Path::new(&bed.out()), &[&fixed, more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn keeping_the_former_root_costs_three_requests_and_one_for_the_stage() {
    let bed = Bed::new(Profile::default()).await;
    let store = publisher(&bed.source, "app");
    let first = images::two_platforms(&store, 1, &[1000, 2000, 3000]).await;
    images::tag(&store, &first, "v1").await;
    let keep = ["--keep-previous"];
    let count = async |more: &[&str]| {
        bed.sink.clear_log();
        assert_code(&one(&bed, more).await, 0);
        bed.sink.requests()
    };
    assert_eq!(
        count(&keep).await,
        20 + 1,
        "a tag that is new has nothing to be kept, if one look says that it still is"
    );
    assert_eq!(count(&keep).await, 1, "nor has one that does not move");
    let second = images::with_one_layer_changed(&store, 1, &[1000, 2000, 3000]).await;
    images::tag(&store, &second, "v1").await;
    // The root by digest; the previous root read, checked and put.
    assert_eq!(count(&keep).await, 10 + 1 + 3, "{:#?}", bed.sink.log());
    assert_eq!(bed.names("app", &holding("v1", &first.digest)).await, Some(first.digest));
    images::tag(&store, &first, "v1").await;
    assert_code(&one(&bed, &keep).await, 0);
    images::tag(&store, &second, "v1").await;
    bed.sink.clear_log();
    assert_code(&one(&bed, &keep).await, 0);
    assert_eq!(bed.puts(&holding("v1", &first.digest)), 0, "it is kept already");
    // Other tests count the verified and the plain way; the counts are unchanged.
    images::tag(&store, &first, "v1").await;
    bed.sink.clear_log();
    assert_code(&one(&bed, &[]).await, 0);
    assert!(bed.sink.log().iter().all(|seen| !seen.path.contains("-was-")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_root_is_kept_with_its_media_type_before_the_tag_moves() {
    for behaviour in behaviours() {
        let bed = Bed::new(behaviour).await;
        let store = publisher(&bed.source, "app");
        let tag = ["v1".parse().unwrap()];
        let first = shape::docker_list(2, &[300]).put(&store, &tag).await;
        assert_code(&one(&bed, &["--keep-previous"]).await, 0);
        shape::single_manifest(3, &[400]).put(&store, &tag).await;
        bed.sink.clear_log();
        assert_code(&one(&bed, &["--keep-previous"]).await, 0);
        let held = Name::Tag(holding("v1", &first.digest).parse().unwrap());
        let held = publisher(&bed.sink, "site/app").fetch(&held).await.unwrap().node;
        assert_eq!((held.digest, &held.media_type), (first.digest, &MediaType::DOCKER_LIST));
        assert!(bed.is_whole("app", first.digest).await);
        let puts: Vec<_> = bed.sink.log().into_iter().filter(|seen| seen.kind == Kind::ManifestPut).collect();
        let place = |end: &str| puts.iter().position(|seen| seen.path.ends_with(end)).unwrap();
        assert!(place(&holding("v1", &first.digest)) < place("/v1"), "{puts:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_a_registry_may_drop_the_former_root() {
    let bed = Bed::new(Profile::zot()).await;
    let first = bed.publish("app", 1).await;
    assert_code(&one(&bed, &[]).await, 0);
    bed.publish("app", 2).await;
    assert_code(&one(&bed, &[]).await, 0);
    assert!(!bed.is_whole("app", first).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_root_that_cannot_be_kept_stops_the_seed_with_the_tag_where_it_was() {
    for (on, at) in [(Kind::ManifestPut, "-was-"), (Kind::ManifestHead, "-was-"), (Kind::ManifestGet, "/manifests/v1")]
    {
        let bed = Bed::new(Profile::default()).await;
        let first = bed.publish("app", 1).await;
        assert_code(&one(&bed, &[]).await, 0);
        std::fs::remove_dir_all(bed.out()).unwrap();
        bed.publish("app", 2).await;
        bed.sink.fault(Fault::always(on, What::Status(403)).at(at));
        let done = one(&bed, &["--keep-previous"]).await;
        assert_code(&done, 4);
        assert!(text(&done).contains("destination: keep what the tag names v1"), "{}", text(&done));
        assert_eq!((bed.names("app", "v1").await, bed.written()), (Some(first), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_too_long_to_be_kept_is_refused_before_anything_is_asked() {
    let bed = Bed::new(Profile::default()).await;
    bed.publish("app", 1).await;
    bed.source.clear_log();
    let from = format!("{}/app:v1", bed.source.host());
    for (length, more, code) in [
        (112, &["--keep-previous"][..], 2),
        (111, &["--keep-previous"], 0),
        (105, &["--keep-previous", "--copy-policy"], 2),
        (112, &[], 0),
    ] {
        let to = format!("{}/site/app:{}", bed.sink.host(), "v".repeat(length));
        let done = seed(&from, &to, &bed.out(), &[&["--skip-verify"], more].concat()).await;
        assert_code(&done, code);
        assert!(code == 0 || bed.sink.requests() == 0, "{}", text(&done));
        assert!(code == 0 || text(&done).contains("is too long"), "{}", text(&done));
        bed.sink.clear_log();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_go_back_at_every_kind_of_registry_and_a_second_time_nothing_is_done() {
    for behaviour in behaviours() {
        let bed = Bed::new(behaviour.clone()).await;
        bed.publish("a", 1).await;
        let old_lock = bed.publish_lock("a", "1").await;
        let (first, _) = bed.two_generations().await;
        let new_lock = bed.publish_lock("a", "2").await;
        bed.publish_lock("b", "3").await;
        assert_code(&bed.seed_catalog(&["a", "b", "c", "d"], &["--keep-previous"]).await, 0);
        assert_eq!(bed.names("a", "v1-lock").await, Some(new_lock));
        assert_eq!(bed.names("a", &holding("v1-lock", &old_lock)).await, Some(old_lock), "{behaviour:?}");

        let done = bed.rollback(&["--yes"]).await;
        assert_code(&done, 0);
        assert_eq!(bed.all().await, [Some(first[0]), Some(first[1]), Some(first[2]), None], "{behaviour:?}");
        assert_eq!((bed.names("a", "v1-lock").await, bed.names("b", "v1-lock").await), (Some(old_lock), None));
        for (name, former) in ["a", "b", "c"].iter().zip(first) {
            assert!(bed.is_whole(name, former).await, "{behaviour:?}");
        }
        let said = text(&done);
        assert!(said.contains("6 of 6 tags are where they were"), "{said}");
        assert_eq!((said.matches("restored ").count(), said.matches("deleted ").count()), (4, 2), "{said}");

        bed.sink.clear_log();
        let again = bed.rollback(&["--yes"]).await;
        assert_code(&again, 0);
        assert_eq!(bed.sink.count(Kind::ManifestPut) + bed.sink.count(Kind::ManifestDelete), 0, "{behaviour:?}");
        assert_eq!(text(&again).matches("unchanged ").count(), 6, "{}", text(&again));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_costs_five_requests_to_put_back_and_three_to_delete() {
    let bed = Bed::new(Profile::default()).await;
    bed.two_generations().await;
    for (names, requests) in [(["a"], 5), (["d"], 3)] {
        assert_code(&bed.seed_catalog(&names, &[]).await, 0);
        bed.sink.clear_log();
        assert_code(&bed.rollback(&["--yes"]).await, 0);
        assert_eq!(bed.sink.requests(), requests, "{:#?}", bed.sink.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_root_that_was_dropped_is_named_and_the_others_go_back() {
    let bed = Bed::new(Profile::zot()).await;
    let (first, second) = bed.two_generations().await;
    // Another tag still names it.
    let store = publisher(&bed.sink, "site/b");
    let root = store.resolve(&Name::Tag("v1".parse().unwrap())).await.unwrap();
    images::tag(&store, &root, "stable").await;
    assert_code(&bed.seed_catalog(&["a", "b"], &[]).await, 0);
    let done = bed.rollback(&["--yes", "--output", "json"]).await;
    assert_code(&done, 5);
    assert_eq!(bed.all().await[..2], [Some(second[0]), Some(first[1])]);
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let outcomes: Vec<_> =
        told["tags"].as_array().unwrap().iter().map(|tag| tag["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["gone", "restored"], "{told:#}");
    assert!(told["tags"][0]["hint"].as_str().unwrap().contains("--keep-previous"));
    assert_eq!(told["tags"][1]["previous_digest"], first[1].to_string());
    assert_eq!(told["tags"][1]["tag"], format!("{}/site/b:v1", bed.sink.host()));
    assert!(text(&done).contains("1 of 2 tags could not be put back"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_somebody_moved_or_deleted_since_is_left_alone() {
    let bed = Bed::new(Profile::default()).await;
    let (first, _) = bed.two_generations().await;
    assert_code(&bed.seed_catalog(&["a", "b", "c"], &["--keep-previous"]).await, 0);
    let store = publisher(&bed.sink, "site/a");
    let other = images::two_platforms(&store, 77, &[10]).await;
    images::tag(&store, &other, "v1").await;
    publisher(&bed.sink, "site/b").untag(&"v1".parse().unwrap()).await.unwrap();
    let done = bed.rollback(&["--yes"]).await;
    assert_code(&done, 5);
    assert_eq!(bed.all().await, [Some(other.digest), None, Some(first[2]), None]);
    assert!(text(&done).contains(&format!("names {} by now: left alone", other.digest.short())), "{}", text(&done));
    assert!(text(&done).contains("names nothing by now: left alone"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tag_that_cannot_be_deleted_is_named_as_left() {
    for status in [405, 403, 404] {
        let bed = Bed::new(Profile::default()).await;
        let digest = bed.publish("a", 1).await;
        assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
        bed.sink.fault(Fault::always(Kind::ManifestDelete, What::Status(status)));
        let done = bed.rollback(&["--yes"]).await;
        assert_code(&done, 5);
        let verb = if status == 403 { "failed " } else { "left " };
        assert!(text(&done).contains(verb), "{}", text(&done));
        assert_eq!(bed.names("a", "v1").await, Some(digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_whose_answer_is_lost_is_done() {
    let bed = Bed::new(Profile::default()).await;
    bed.publish("a", 1).await;
    assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
    bed.sink.fault(Fault::next(Kind::ManifestDelete, What::ResetAfter));
    let done = bed.rollback(&["--yes"]).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("deleted "), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_cannot_be_put_or_asked_for_is_named_and_the_others_go_back() {
    let bed = Bed::new(Profile::default()).await;
    let (first, second) = bed.two_generations().await;
    assert_code(&bed.seed_catalog(&["a", "b", "c"], &["--keep-previous"]).await, 0);
    bed.sink.fault(Fault::always(Kind::ManifestPut, What::Status(403)).at("site/a/manifests/v1"));
    bed.sink.fault(Fault::always(Kind::ManifestHead, What::Status(403)).at("site/b/manifests/v1"));
    let done = bed.rollback(&["--yes"]).await;
    assert_code(&done, 5);
    assert_eq!(bed.all().await, [Some(second[0]), Some(second[1]), Some(first[2]), None]);
    assert_eq!(text(&done).matches("failed ").count(), 2, "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_and_without_a_yes_nothing_is_asked_of_anybody() {
    let bed = Bed::new(Profile::default()).await;
    bed.two_generations().await;
    assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
    bed.sink.clear_log();
    let mut command = program(&["registry", "rollback", "--allow-insecure-registry", "--manifest"]);
    let done = command.arg(bed.roll_up()).stdin(Stdio::null()).output().await.unwrap();
    assert_code(&done, 2);
    assert!(text(&done).contains("--yes"), "{}", text(&done));
    assert_eq!(bed.sink.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_up_that_was_tampered_with_moves_nothing() {
    let bed = Bed::new(Profile::default()).await;
    let (first, second) = bed.two_generations().await;
    assert_code(&bed.seed_catalog(&["a", "b"], &["--keep-previous"]).await, 0);
    let good = std::fs::read_to_string(bed.roll_up()).unwrap();
    let never = Digest::sha256(b"never").to_string();
    let (former, dir) = (first[0].to_string(), good.split("\"dir\": \"").nth(1).unwrap().split('"').next().unwrap());
    let seed_to = format!("\"dest_ref\": \"{}/site/a:v1\"", bed.sink.host());
    let twice = (format!("{}/site/b:v1", bed.sink.host()), format!("{}/site/a:v1", bed.sink.host()));
    let lock = format!("\"sidecars\": [{{\"kind\": \"lock\", \"digest\": \"{never}\", \"previous_digest\": null}}],");
    let other_kind = lock.replace("lock", "../../other");
    let seed = "\"seed\": {";
    for (from, to, code) in [
        (dir, "../", 2),
        ("catalog-seed.v1", "catalog-seed.v2", 2),
        (&seed_to, "\"dest_ref\": \"elsewhere.example/a:v1\"", 2),
        (&twice.0, &twice.1, 2),
        (seed, &format!("{other_kind}{seed}"), 2),
        (
            seed,
            &format!("{}{seed}", lock.replace("}]", &format!("}},{}", &lock["\"sidecars\": [".len()..lock.len() - 1]))),
            2,
        ),
        (&former, &never, 5),
        (&second[0].to_string(), &never, 5),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(bed.roll_up(), good.replace(from, to)).unwrap();
        bed.sink.clear_log();
        let done = bed.rollback(&["--yes"]).await;
        assert_code(&done, code);
        assert_eq!(bed.names("a", "v1").await, Some(second[0]), "{to}: {}", text(&done));
        assert!(code == 5 || bed.sink.requests() == 0, "{to}: {}", text(&done));
        if code == 5 {
            assert_eq!(bed.names("b", "v1").await, Some(first[1]), "{}", text(&done));
            let store = publisher(&bed.sink, "site/b");
            let root = store.resolve(&Name::Digest(second[1])).await.unwrap();
            images::tag(&store, &root, "v1").await;
        }
    }
    for file in ["nowhere.json", "."] {
        let file = bed.home.path().join(file);
        let done = ["registry", "rollback", "--yes", "--manifest", file.to_str().unwrap()];
        assert_code(&autonomy(&done).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_needs_its_flag_here_too() {
    let bed = Bed::new(Profile::default()).await;
    bed.two_generations().await;
    assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
    let file = bed.roll_up();
    let done = autonomy(&["registry", "rollback", "--yes", "--manifest", file.to_str().unwrap()]).await;
    assert_code(&done, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_is_stopped_finishes_its_tag_and_says_what_is_left() {
    let bed = Bed::new(Profile::default()).await;
    let (first, second) = bed.two_generations().await;
    assert_code(&bed.seed_catalog(&["a", "b", "c"], &["--keep-previous"]).await, 0);
    bed.sink.clear_log();
    bed.sink.fault(Fault::always(Kind::ManifestPut, What::Delay(Duration::from_millis(500))).at("site/b/manifests/v1"));
    let file = bed.roll_up().to_str().unwrap().to_owned();
    let arguments = ["registry", "rollback", "--yes", "--allow-insecure-registry", "--manifest", &file];
    let child = start(&arguments.map(str::to_owned));
    while bed.puts("v1") < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let done = stopped(child).await;
    assert_code(&done, 130);
    assert_eq!(bed.all().await, [Some(first[0]), Some(first[1]), Some(second[2]), None]);
    assert!(text(&done).contains("interrupted before it was its turn"), "{}", text(&done));
    assert_code(&bed.rollback(&["--yes"]).await, 0);
    assert_eq!(bed.all().await[2], Some(first[2]));
}
