//! Interrupted downloads: number of bytes sent again.

use std::time::Duration;

use autonomy_registry::copy::Events;
use autonomy_registry::retry::Retry;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::transport::Native;
use autonomy_registry::wire::{Client, ClientOptions};
use autonomy_registry::workflow::{self, Journal, Trust};
use testkit::images::shape;

use super::field::{self, Mode};

const MIB: u64 = 1 << 20;

/// Most bytes sent again because of one cut.
const MOST_AGAIN: u64 = 8 * MIB;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the test command shows the figures")]
async fn a_download_of_64_mebibytes_goes_on_where_it_was_cut() {
    for mode in Mode::ALL {
        let (source, sink) = (Testbed::with(mode.open()).await, Testbed::with(mode.open()).await);
        let image = shape::single_manifest(1, &[64 * MIB]);
        image.put(&source.layout("app"), &["v1".parse().unwrap()]).await;
        let layer = image.nodes.iter().max_by_key(|node| node.size).unwrap();
        let cuts = [5 * MIB, 0, 1, 20 * MIB + 3, 17 * MIB];
        for (number, after) in (1..).zip(cuts) {
            let cut = Fault::next(Kind::BlobGet, What::CutBody { after });
            source.fault(cut.at(layer.digest.to_string()).from_the(number));
        }
        let retry = Retry { first_pause: Duration::from_millis(2), ..Retry::default() };
        let client = Client::new(ClientOptions { allow_plain_http: true, retry, ..ClientOptions::default() }).unwrap();
        let (out, events) = (tempfile::tempdir().unwrap(), Events::none());
        let seed = field::seed(&source, &sink, Trust::Skip, out.path());
        let done = workflow::seed(&seed, &client, &Journal::none(), &Native, &events).await.unwrap();
        assert_eq!(done.seed.dest_digest, image.root.digest);
        let (held, damaged) = field::held(sink.data_dir());
        assert!(held.contains(&layer.digest) && damaged.is_empty(), "{mode:?}: {damaged:?}");

        let log = source.log();
        let asked: Vec<_> = log.iter().filter(|seen| seen.path.ends_with(&layer.digest.to_string())).collect();
        assert_eq!(asked.len(), cuts.len() + 1, "{mode:?}: {asked:#?}");
        let sent: u64 = asked.iter().map(|seen| seen.bytes_out).sum();
        let again = sent - layer.size;
        println!(
            "table: resume {}: 64 MiB cut {} times, {:.2} MiB sent again",
            mode.name(),
            cuts.len(),
            again as f64 / MIB as f64
        );
        assert!(again <= MOST_AGAIN * cuts.len() as u64, "{mode:?}: {again} bytes");
        // And after each cut: the offset where the download resumes.
        let from = |range: Option<&str>| range.map_or(0, |text| text[6..text.len() - 1].parse::<u64>().unwrap());
        for two in asked.windows(2) {
            let (reached, next) = (from(two[0].range.as_deref()) + two[0].bytes_out, from(two[1].range.as_deref()));
            assert!(reached - next <= MOST_AGAIN, "{mode:?}: {reached} bytes were sent, it goes on at {next}");
        }
    }
}
