//! The time of a seal: image, lock and policy of one seal have signatures of one time.
//!
//! Each of them may have been signed again since, alone, by the same signer or where two sites' signatures were merged.
//! So they belong to one seal if *some* choice of one valid signature of each is within an hour. A stricter rule would
//! refuse no more: a server of a bundle can omit signatures, and so make any such choice itself. Signatures of a time
//! that a part does not have need the key: an older lock beside an image with newer signatures only belongs to another
//! seal, whatever else is served with it.
//!
//! Another time decides which release is newer: see [`ChosenProofs::newest`].

use jiff::{SignedDuration, Timestamp};

use super::evidence::SignatureProof;

use crate::trust::failure::{ErrorClass, Failure};

/// How far apart the times of the signatures of one seal may be. They have one time; a signer that takes a new time for
/// each signature needs as long as its key does.
const ONE_SEAL: SignedDuration = SignedDuration::from_hours(1);

/// The signatures of a part that meet every demand.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: &'static str,
    proofs: Vec<SignatureProof>,
}

/// The signatures that prove a part.
#[derive(Debug)]
pub(super) struct ChosenProofs {
    pub(super) name: &'static str,
    /// The signature that belongs to one seal with those of the other parts.
    pub(super) proof: SignatureProof,
    /// The newest of all, if it is another one. It is copied too: its time decides between a rollback and an update
    /// (contract §1: of several the newest valid one), because the publisher has vouched for the part at that time.
    pub(super) newest: Option<SignatureProof>,
}

impl Part {
    /// Makes the part `name` of the signatures found: at least one.
    pub(super) fn new(name: &'static str, mut proofs: Vec<SignatureProof>) -> Self {
        // Stable: among signatures of the same time, the one found first comes first.
        proofs.sort_by_key(|proof| std::cmp::Reverse(proof.signed_at));
        Self { name, proofs }
    }

    /// Returns the newest signature between an hour before `end` and `end`; any signature of a part without any time.
    fn at(&self, end: Timestamp) -> Option<usize> {
        if !self.says_a_time() {
            return Some(0);
        }
        let at = self.proofs.partition_point(|proof| proof.signed_at > Some(end));
        let time = self.proofs.get(at)?.signed_at?;
        (end.duration_since(time) <= ONE_SEAL).then_some(at)
    }

    fn says_a_time(&self) -> bool {
        self.newest_time().is_some()
    }

    fn newest_time(&self) -> Option<Timestamp> {
        self.proofs.first()?.signed_at
    }

    fn chosen(mut self, at: usize) -> Option<ChosenProofs> {
        if at >= self.proofs.len() {
            return None;
        }
        let proof = self.proofs.swap_remove(at);
        let newest = if at == 0 { None } else { self.proofs.into_iter().next() };
        Some(ChosenProofs { name: self.name, proof, newest })
    }
}

/// Returns the newest signature of each part, independently of the others.
pub(super) fn newest(parts: Vec<Part>) -> Vec<ChosenProofs> {
    parts.into_iter().filter_map(|part| part.chosen(0)).collect()
}

/// Chooses one signature of each part so that all are within an hour: the newest of all such choices.
///
/// Returns the parts as the error if there is no such choice.
pub(super) fn of_one_seal(parts: Vec<Part>) -> Result<Vec<ChosenProofs>, Vec<Part>> {
    let times = parts.iter().flat_map(|part| &part.proofs).filter_map(|proof| proof.signed_at);
    let mut ends: Vec<_> = times.collect();
    ends.sort_unstable_by_key(|&time| std::cmp::Reverse(time));
    ends.dedup();
    if ends.is_empty() {
        return Ok(newest(parts));
    }
    let choice = ends.into_iter().find_map(|end| parts.iter().map(|part| part.at(end)).collect::<Option<Vec<_>>>());
    match choice {
        Some(choice) => Ok(parts.into_iter().zip(choice).filter_map(|(part, at)| part.chosen(at)).collect()),
        None => Err(parts),
    }
}

/// Returns the reason why `parts` are not of one seal, by the newest signature of each.
pub(super) fn mismatch(parts: &[Part]) -> Failure {
    let times = parts.iter().filter_map(|part| Some((part.newest_time()?, part.name)));
    let why = match (times.clone().min(), times.max()) {
        (Some((early, one)), Some((late, other))) if one != other => {
            format!("the {one} was signed at {early} and the {other} at {late}: they are not of one seal")
        }
        _ => "no times of image, lock and policy lie within an hour".to_owned(),
    };
    let has_more = parts.iter().any(|part| part.proofs.len() > 1);
    let why = if has_more { why + ", and no other signatures of theirs are" } else { why };
    Failure::new(ErrorClass::TimeSet, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Descriptor, Digest, MediaType};
    use crate::verify::Evidence;

    fn part(name: &'static str, minutes: &[Option<i64>]) -> Part {
        let node = Descriptor::of(MediaType::OCI_MANIFEST, b"");
        let proof = |minute: &Option<i64>| SignatureProof {
            signs: Digest::sha256(name.as_bytes()),
            key: String::new(),
            signed_at: minute.map(|minute| Timestamp::from_second(minute * 60).unwrap()),
            recorded: None,
            form: "legacy",
            evidence: Evidence::Referrer { node: node.clone() },
        };
        Part::new(name, minutes.iter().map(proof).collect())
    }

    /// Returns the minutes of the chosen signatures, and of the newest ones where they differ.
    fn chosen(parts: [&[Option<i64>]; 3]) -> Option<Vec<(Option<i64>, Option<i64>)>> {
        let [image, lock, policy] = parts;
        let parts = vec![part("image", image), part("lock", lock), part("policy", policy)];
        let minute = |proof: &SignatureProof| proof.signed_at.map(|time| time.as_second() / 60);
        let told = |one: ChosenProofs| (minute(&one.proof), one.newest.as_ref().and_then(minute));
        of_one_seal(parts).ok().map(|chosen| chosen.into_iter().map(told).collect())
    }

    #[test]
    fn some_choice_within_an_hour_is_enough_and_the_newest_one_is_taken() {
        let at = Some;
        for (parts, expected) in [
            ([&[at(0)][..], &[at(0)], &[at(60)]], Some([(0, None), (0, None), (60, None)])),
            ([&[at(0)], &[at(0)], &[at(61)]], None),
            ([&[at(0), at(500)], &[at(10)], &[at(20)]], Some([(0, Some(500)), (10, None), (20, None)])),
            (
                [&[at(0), at(500)], &[at(10), at(510)], &[at(520), at(20)]],
                Some([(500, None), (510, None), (520, None)]),
            ),
            // A chain in which each fits only the next is no seal.
            ([&[at(0)], &[at(40)], &[at(80)]], None),
            ([&[at(0), at(40)], &[at(40)], &[at(80)]], Some([(40, None), (40, None), (80, None)])),
            ([&[at(0), at(500)], &[at(0)], &[at(500)]], None),
        ] {
            let expected = expected.map(|all| all.map(|(time, newest): (i64, _)| (at(time), newest)).to_vec());
            assert_eq!(chosen(parts), expected, "{parts:?}");
        }
    }

    #[test]
    fn a_part_that_says_no_time_is_not_compared_and_one_that_says_some_is() {
        assert!(chosen([&[Some(0)], &[None], &[Some(1)]]).is_some());
        assert!(chosen([&[None], &[None], &[None]]).is_some());
        assert!(chosen([&[Some(0)], &[None, Some(500)], &[Some(0)]]).is_none());
    }

    proptest::proptest! {
        #[test]
        fn a_set_is_accepted_exactly_if_some_choice_lies_within_an_hour(
            image in proptest::collection::vec(0_i64..400, 1..5),
            lock in proptest::collection::vec(0_i64..400, 1..5),
            policy in proptest::collection::vec(0_i64..400, 1..5),
        ) {
            let fits = |a: i64, b: i64, c: i64| a.max(b).max(c) - a.min(b).min(c) <= 60;
            let exists = image.iter().any(|&a| lock.iter().any(|&b| policy.iter().any(|&c| fits(a, b, c))));
            let [image, lock, policy] = [image, lock, policy].map(|all| all.into_iter().map(Some).collect::<Vec<_>>());
            let chosen = chosen([&image, &lock, &policy]);
            assert_eq!(chosen.is_some(), exists);
            if let Some(chosen) = chosen {
                let times: Vec<_> = chosen.iter().map(|(time, _)| time.unwrap()).collect();
                assert!(fits(times[0], times[1], times[2]));
            }
        }
    }
}
