//! `--atomic`: all tags move or none does, and the output names what could not be undone.

use std::time::Duration;

use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};

use crate::kit::command::{assert_code, text};
use crate::kit::site_bed::{Bed, behaviours, holding, start, stopped};

const ALL: [&str; 4] = ["a", "b", "c", "d"];

#[tokio::test(flavor = "multi_thread")]
async fn all_tags_move_and_former_roots_stay_whole_at_every_kind_of_registry() {
    for behaviour in behaviours() {
        let bed = Bed::new(behaviour.clone()).await;
        let (first, second) = bed.two_generations().await;
        assert_code(&bed.seed_catalog(&ALL, &["--atomic"]).await, 0);
        assert_eq!(bed.all().await, second.map(Some), "{behaviour:?}");
        for (name, former) in ALL.iter().zip(first) {
            assert_eq!(bed.names(name, &holding("v1", &former)).await, Some(former), "{behaviour:?}");
            assert!(bed.is_whole(name, former).await, "{behaviour:?}");
        }
        assert_eq!(bed.written(), 4 + 2, "a folder each, the roll-up and the history");
        let roll_up = std::fs::read_to_string(bed.roll_up()).unwrap();
        assert!(first.iter().all(|digest| roll_up.contains(&format!("\"previous_digest\": \"{digest}\""))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tag_moves_before_every_image_is_in_place() {
    let bed = Bed::new(Profile::default()).await;
    bed.two_generations().await;
    assert_code(&bed.seed_catalog(&ALL, &["--atomic"]).await, 0);
    let log = bed.sink.log();
    let is_tag = |path: &str| path.ends_with("/manifests/v1");
    let puts: Vec<_> = log.iter().filter(|seen| seen.method == "PUT").map(|seen| seen.path.as_str()).collect();
    let first = puts.iter().position(|path| is_tag(path)).unwrap();
    let order: Vec<_> = puts[first..].to_vec();
    assert_eq!(
        order,
        ALL.map(|name| format!("/v2/site/{name}/manifests/v1")),
        "in the catalog's order, and last of all"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_cannot_be_put_leaves_all_where_they_were_at_every_kind_of_registry() {
    for behaviour in behaviours() {
        let bed = Bed::new(behaviour.clone()).await;
        let (first, _) = bed.two_generations().await;
        bed.sink.fault(Fault::always(Kind::ManifestPut, What::Status(403)).at_the_end("site/c/manifests/v1"));
        // The new tag is put first, so that it has to be removed again.
        let done = bed.seed_catalog(&["d", "a", "b", "c"], &["--atomic"]).await;
        assert_code(&done, 4);
        assert_eq!(bed.all().await, [Some(first[0]), Some(first[1]), Some(first[2]), None], "{behaviour:?}");
        assert_eq!(bed.written(), 0, "{behaviour:?}");
        for (name, former) in ["a", "b", "c"].iter().zip(first) {
            assert!(bed.is_whole(name, former).await, "{behaviour:?}");
        }
        let host = bed.sink.host();
        let says =
            format!("put back: {host}/site/d:v1, {host}/site/a:v1, {host}/site/b:v1; not moved: {host}/site/c:v1;");
        assert!(text(&done).contains(&says) && !text(&done).contains("NOT put back"), "{}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_stays_unavailable_is_no_other_case() {
    let bed = Bed::new(Profile::default()).await;
    let (first, _) = bed.two_generations().await;
    bed.sink.fault(Fault::always(Kind::ManifestPut, What::Status(503)).at_the_end("site/b/manifests/v1"));
    let done = bed.seed_catalog(&["a", "b", "c"], &["--atomic", "--retry-for", "1s"]).await;
    assert_code(&done, 4);
    assert_eq!(bed.all().await, [Some(first[0]), Some(first[1]), Some(first[2]), None]);
    assert!(text(&done).contains("503"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_although_its_answer_was_lost_is_put_back_too() {
    let bed = Bed::new(Profile::default()).await;
    let (first, _) = bed.two_generations().await;
    // Five attempts that the server carries out; the sixth PUT puts the tag back. Between them the program cannot read the tag.
    let unheard = What::StatusAfter { status: 500, keeps_headers: false };
    bed.sink.fault(Fault { times: 5, ..Fault::next(Kind::ManifestPut, unheard).at_the_end("site/b/manifests/v1") });
    let unheard = Fault::next(Kind::ManifestHead, What::Status(500)).at_the_end("site/b/manifests/v1");
    bed.sink.fault(unheard.from_the(2).times(4));
    let done = bed.seed_catalog(&["a", "b", "c"], &["--atomic"]).await;
    assert_code(&done, 4);
    assert_eq!(bed.all().await, [Some(first[0]), Some(first[1]), Some(first[2]), None], "{}", text(&done));
    assert_eq!(bed.puts("v1"), 2 + 6, "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_although_its_answer_was_lost_is_not_put_again() {
    let bed = Bed::new(Profile::default()).await;
    let (_, second) = bed.two_generations().await;
    bed.sink.fault(Fault {
        times: 5,
        ..Fault::next(Kind::ManifestPut, What::ResetAfter).at_the_end("site/b/manifests/v1")
    });
    let done = bed.seed_catalog(&["a", "b", "c"], &["--atomic"]).await;
    assert_code(&done, 0);
    assert_eq!(bed.all().await[1], Some(second[1]), "{}", text(&done));
    assert_eq!(bed.puts("v1"), 3, "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_cannot_be_put_back_is_named() {
    let bed = Bed::new(Profile::default()).await;
    let (first, second) = bed.two_generations().await;
    bed.sink.fault(Fault {
        nth: 2,
        ..Fault::always(Kind::ManifestPut, What::Status(403)).at_the_end("site/a/manifests/v1")
    });
    bed.sink.fault(Fault::always(Kind::ManifestPut, What::Status(403)).at_the_end("site/c/manifests/v1"));
    bed.sink.fault(Fault::always(Kind::ManifestDelete, What::Status(405)));
    let done = bed.seed_catalog(&["a", "b", "d", "c"], &["--atomic"]).await;
    assert_code(&done, 4);
    assert_eq!(bed.all().await, [Some(second[0]), Some(first[1]), Some(first[2]), Some(second[3])]);
    let (said, host) = (text(&done), bed.sink.host());
    assert!(said.contains(&format!("put back: {host}/site/b:v1; NOT put back: {host}/site/a:v1 (")), "{said}");
    assert!(said.contains(&format!("{host}/site/d:v1 (it is new, and cannot be deleted: ")), "{said}");
    assert_eq!(bed.written(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_somebody_else_moves_meanwhile_is_not_put_back() {
    let bed = Bed::new(Profile::default()).await;
    let (first, _) = bed.two_generations().await;
    let other = bed.publish("a", 99).await;
    bed.publish("a", 11).await;
    let pause = Duration::from_millis(700);
    bed.sink.fault(Fault::always(Kind::ManifestPut, What::Delay(pause)).at_the_end("site/b/manifests/v1"));
    bed.sink.fault(Fault::always(Kind::ManifestPut, What::Status(403)).at_the_end("site/c/manifests/v1"));
    let names = ["a", "b", "c"];
    let moving = async {
        // Bounded: a run that ends before that has failed, and the assertions say how.
        for _ in 0..2000 {
            if bed.puts("v1") == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let store = crate::kit::command::publisher(&bed.sink, "site/a");
        let root = testkit::images::two_platforms(&store, 99, &[500]).await;
        testkit::images::tag(&store, &root, "v1").await;
    };
    let (done, ()) = tokio::join!(bed.seed_catalog(&names, &["--atomic"]), moving);
    assert_code(&done, 4);
    assert_eq!(bed.all().await, [Some(other), Some(first[1]), Some(first[2]), None], "{}", text(&done));
    assert!(text(&done).contains("site/a:v1 (somebody else has moved it since)"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_staged_moves_no_tag_and_keeps_none() {
    let bed = Bed::new(Profile::default()).await;
    let (first, _) = bed.two_generations().await;
    bed.sink.fault(Fault::always(Kind::UploadPost, What::Status(403)).at("site/c"));
    let done = bed.seed_catalog(&ALL, &["--atomic"]).await;
    assert_code(&done, 4);
    assert_eq!(bed.all().await, [Some(first[0]), Some(first[1]), Some(first[2]), None]);
    assert_eq!((bed.puts("v1"), bed.written()), (0, 0));
    assert_eq!(bed.puts(&holding("v1", &first[0])), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_or_none_and_keep_going_contradict_each_other() {
    let bed = Bed::new(Profile::default()).await;
    assert_code(&bed.seed_catalog(&["a"], &["--atomic", "--keep-going"]).await, 2);
    assert_eq!((bed.source.requests(), bed.sink.requests()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_images_are_not_touched() {
    let bed = Bed::new(Profile::default()).await;
    let (_, second) = bed.two_generations().await;
    assert_code(&bed.seed_catalog(&ALL, &["--atomic"]).await, 0);
    bed.sink.clear_log();
    assert_code(&bed.seed_catalog(&ALL, &["--atomic"]).await, 0);
    assert_eq!(bed.all().await, second.map(Some));
    assert_eq!(
        (bed.puts("v1"), bed.sink.requests()),
        (0, 4 * 2),
        "the tag, and the root read back: {:#?}",
        bed.sink.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_before_the_first_tag_has_moved_none() {
    let bed = Bed::new(Profile::default()).await;
    let (first, _) = bed.two_generations().await;
    let slow = || What::Delay(Duration::from_secs(20));
    bed.sink.fault(Fault::always(Kind::UploadPut, slow()).at("site/c"));
    let child = start(&bed.catalog(&ALL, &["--atomic"]));
    while bed.sink.count(Kind::UploadPut) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let done = stopped(child).await;
    assert_code(&done, 130);
    assert_eq!(bed.all().await, [Some(first[0]), Some(first[1]), Some(first[2]), None]);
    assert_eq!((bed.puts("v1"), bed.written()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_while_its_tags_move_is_finished() {
    let bed = Bed::new(Profile::default()).await;
    let (_, second) = bed.two_generations().await;
    bed.sink
        .fault(Fault::always(Kind::ManifestPut, What::Delay(Duration::from_millis(400))).at_the_end("/manifests/v1"));
    let child = start(&bed.catalog(&ALL, &["--atomic"]));
    while bed.puts("v1") < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let done = stopped(child).await;
    assert_code(&done, 0);
    assert_eq!((bed.all().await, bed.written()), (second.map(Some), 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_finished_in_time_says_which_tags_moved() {
    let bed = Bed::new(Profile::default()).await;
    let (first, second) = bed.two_generations().await;
    bed.sink.fault(
        Fault::always(Kind::ManifestPut, What::Delay(Duration::from_secs(20))).at_the_end("site/b/manifests/v1"),
    );
    let child = start(&bed.catalog(&ALL, &["--atomic"]));
    while bed.puts("v1") < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let done = stopped(child).await;
    assert_code(&done, 130);
    let (said, host) = (text(&done), bed.sink.host());
    let says = format!(
        "moved: {host}/site/a:v1; may have moved: {host}/site/b:v1; not moved: {host}/site/c:v1, {host}/site/d:v1"
    );
    assert!(said.contains(&says), "{said}");
    assert_eq!(bed.all().await, [Some(second[0]), Some(first[1]), Some(first[2]), None]);
    assert_eq!(bed.written(), 0);
}
