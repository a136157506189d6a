//! The time of a seal: image, lock and policy of one seal bear signatures of one time.
//!
//! Each of them may have been signed again since, alone, by the same signer or where two sites' signatures were merged. So
//! they are of one seal if *some* choice of one valid signature of each lies within an hour. That refuses no less than a
//! stricter rule could: whoever serves a bundle can leave signatures out, so a choice is all that could be held against
//! them anyway. Signatures of a time that a part does not bear cannot be made without the key: an older lock beside an
//! image that has newer signatures only is of another seal, whatever it is served with.
//!
//! Which release is the newer one is another question, and another time answers it: see [`Chosen::newest`].

use jiff::{SignedDuration, Timestamp};

use super::evidence::SignatureProof;

use crate::trust::failure::{ErrorClass, Failure};

/// How far apart the signatures of one seal may lie. They bear one time; signers that ask for it anew for each take as long
/// as their key needs.
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
    /// The signature that is of one seal with those of the other parts.
    pub(super) proof: SignatureProof,
    /// The newest of all, where that is another one. It travels too: its time is what tells a step back from a step on
    /// (contract §1: of several the newest valid one), since the publisher has vouched for the part as late as that.
    pub(super) newest: Option<SignatureProof>,
}

impl Part {
    /// The part `name` with what was found: at least one.
    pub(super) fn new(name: &'static str, mut proofs: Vec<SignatureProof>) -> Self {
        // Stable: of those of one time, the one that was found first.
        proofs.sort_by_key(|proof| std::cmp::Reverse(proof.signed_at));
        Self { name, proofs }
    }

    /// The newest signature between an hour before `end` and `end`; of a part that says no time at all, any.
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

/// Takes the newest signature of each part, whatever the others bear.
pub(super) fn newest(parts: Vec<Part>) -> Vec<ChosenProofs> {
    parts.into_iter().filter_map(|part| part.chosen(0)).collect()
}

/// Chooses one signature of each part so that all lie within an hour: of all such choices the newest.
///
/// The parts come back if there is none.
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

/// Why `parts` are not of one seal, by the newest signature of each.
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

    /// The minutes that are chosen, and those of the newest where they are others.
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
            // A chain in which each fits the next is no set.
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
