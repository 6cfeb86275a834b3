//! What a trace teaches.

use super::{ADAPTIVE, Options, Request, Starting, node, replay, request, trace};
use crate::replay::{starting_of_file, trace::write_record};
use std::{fs, io::Write as _};

/// As a node like `node("a")` answered it, with nothing else to do.
fn answered(at: f64, tokens: u32) -> Request {
    let (prefill, decode) = (1.0, 0.1 * f64::from(tokens));
    Request {
        ttft: Some(prefill + 5.0),
        waited: Some(5.0),
        total: Some(prefill + decode + 5.0),
        ..request(at, tokens)
    }
}

/// How wrong `adaptive` is about the first three of its requests, as a share of their time.
fn error(starting: Starting) -> f64 {
    let requests = (0..3).map(|step| request(60.0 * f64::from(step), 40));
    let trace = trace(vec![node("a")], requests.collect());
    let options = Options {
        starting,
        ..Options::default()
    };
    let report = replay(&trace, &[], &[ADAPTIVE], &options).unwrap();
    report.results[0].prediction_error.unwrap()
}

fn past() -> Vec<Request> {
    (0..20)
        .map(|step| answered(30.0 * f64::from(step), 40))
        .collect()
}

#[test]
fn after_a_trace_the_first_answers_are_foretold() {
    let untrained = error(Starting::default());
    let trained = error(trace(Vec::new(), past()).starting());
    assert!(trained < 0.1 && untrained > 0.3, "{trained}, {untrained}");
    // What the node itself said counts before what was seen of it.
    let said = past().into_iter().map(|request| Request {
        prefill: Some(1.0),
        decode: Some(4.0),
        ttft: Some(50.0),
        total: Some(99.0),
        ..request
    });
    let said = error(trace(Vec::new(), said.collect()).starting());
    assert!(said < 0.1, "{said}");
}

#[test]
fn a_model_that_is_not_in_the_trace_is_believed_to_be_like_those_that_are() {
    let past = past().into_iter().map(|request| Request {
        model: "another".to_owned(),
        ..request
    });
    let other = error(trace(Vec::new(), past.collect()).starting());
    assert!(other < 0.1, "{other}");
}

#[test]
fn a_trace_without_times_teaches_how_long_answers_are() {
    let past = (0..20).map(|step| request(f64::from(step), 40)).collect();
    let lengths = error(trace(Vec::new(), past).starting());
    assert!(lengths < error(Starting::default()), "{lengths}");
}

#[test]
fn the_end_of_a_file_is_read_and_what_is_no_request_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let nothing = error(Starting::default());
    let of_file = || error(starting_of_file(&path).unwrap());
    assert!((of_file() - nothing).abs() < 1e-9, "there is none yet");
    let mut file = fs::File::create(&path).unwrap();
    write_record(&mut file, &super::Trace::default().header).unwrap();
    for request in past() {
        write_record(&mut file, &request).unwrap();
        file.write_all(b"\n{\"at\":-1}\nneither this\n").unwrap();
    }
    file.write_all(br#"{"at":900.0,"model":"m","promp"#)
        .unwrap();
    assert!(of_file() < 0.1);
    // Of a very long one, only the end.
    let other = request(0.0, 4000);
    for _ in 0..120_000 {
        write_record(&mut file, &other).unwrap();
    }
    assert!(of_file() > nothing);
}
