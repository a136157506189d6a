//! Which logs are trusted, and when an entry is required.

use super::*;

#[test]
fn one_trusted_log_is_enough_and_what_it_does_not_vouch_for_is_refused() {
    let (log, other, signature) = (Log::new(), Log::new(), Signature::enveloped());
    let body = signature.body("dsse");
    let (ours, theirs) = (log.entry(&body, 0, 2), other.entry(&body, 1, 3));
    let broken = replaced(&theirs, "/integratedTime", "1");
    assert!(judge(&[&log], &signature, &[theirs.clone(), ours.clone()]).unwrap().is_some());
    assert!(judge(&[&log], &signature, &[broken.clone(), ours.clone()]).unwrap().is_some(), "of a log unknown");
    assert!(judge(&[&log, &other], &signature, std::slice::from_ref(&theirs)).unwrap().is_some());
    let refused = judge(&[&log], &signature, &[theirs]).unwrap_err().to_string();
    assert!(refused.contains("not a trusted one"), "{refused}");
    assert_eq!(class(judge(&[&log, &other], &signature, &[ours, broken])), Some(ErrorClass::TlogRequired));
}

#[test]
fn entries_are_looked_at_only_where_a_log_is_believed_and_missed_only_where_one_is_demanded() {
    let (log, signature) = (Log::new(), Signature::legacy());
    let unread = || -> Result<Vec<Entry>, Failure> { panic!("there is nobody to believe") };
    assert_eq!(check(&[], Tlog::NotAsked, &signature.signed(), unread), Ok(None));
    assert_eq!(check(&keys(&[&log]), Tlog::NotAsked, &signature.signed(), || Ok(Vec::new())), Ok(None));
    for logs in [&[&log][..], &[]] {
        let verdict = check(&keys(logs), Tlog::Required, &signature.signed(), || Ok(Vec::new()));
        assert_eq!(class(verdict), Some(ErrorClass::TlogRequired));
    }
}
