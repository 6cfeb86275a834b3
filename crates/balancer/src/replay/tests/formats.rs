//! Traces, descriptions of nodes and results, as they are written and read.

use super::{
    ADAPTIVE, Contender, Interval, LEAST, NodeShape, Options, Report, Synthetic, Trace, all, node,
    replay, request, trace,
};
use crate::Priority;
use crate::{
    policy::{Job, Link, Outcome},
    replay::{
        ReplayError, TraceError,
        recorder::{Arrival, Recorder},
    },
};
use std::time::Duration;

#[test]
fn a_trace_is_read_as_it_was_written() {
    let trace = Synthetic {
        seconds: 60.0,
        ..Synthetic::default()
    }
    .trace();
    let mut bytes = Vec::new();
    trace.write(&mut bytes).unwrap();
    assert_eq!(Trace::read(&bytes[..]).unwrap(), trace);
}

#[test]
fn a_bad_trace_is_refused_with_its_line() {
    let read = |text: &str| Trace::read(text.as_bytes()).unwrap_err().to_string();
    assert!(read("").contains("empty"));
    assert!(read("{\"jarvis_trace\":2,\"new\":0}").contains("version 2"));
    let head = "{\"jarvis_trace\":1}\n\n";
    assert!(read(&format!("{head}{{\"at\":]")).contains("line 3"));
    let early = "{\"at\":-1,\"model\":\"m\",\"prompt_bytes\":1,\"tokens\":1}";
    assert!(read(&format!("{head}{early}")).contains("line 3"));
    let node = "{\"jarvis_trace\":1,\"nodes\":[{\"name\":\"a\",\"slots\":0}]}";
    assert!(read(node).contains("slots"));
    let long = format!("{head}{}", "x".repeat(5 << 20));
    assert!(matches!(
        Trace::read(long.as_bytes()),
        Err(TraceError::TooLong { line: 3 })
    ));
}

#[test]
fn nodes_are_described_on_a_line() {
    let node: NodeShape = "name=a slots=2 decode=0.01 models=x,y down=10-20 slow=5-9*3"
        .parse()
        .unwrap();
    assert_eq!((node.slots, node.models.len()), (2, 2));
    let down = Interval {
        from: 10.0,
        to: 20.0,
    };
    assert_eq!(node.down, [down]);
    assert!((node.slow[0].factor - 3.0).abs() < f64::EPSILON);
    let json = serde_json::to_string(&node).unwrap();
    assert_eq!(NodeShape::read_all(json.as_bytes()).unwrap(), [node]);
    for bad in [
        "slots=2",
        "name=a slots=0",
        "name=a slots=two",
        "name=a speed=3",
        "name=a fast",
        "name=a down=20-10",
        "name=a decode=NaN",
    ] {
        assert!(bad.parse::<NodeShape>().is_err(), "{bad}");
    }
}

#[test]
fn a_replay_that_cannot_be_says_why() {
    let some = trace(vec![node("a")], vec![request(0.0, 1)]);
    let run = |trace: &Trace, contenders: &[Contender]| {
        replay(trace, &[], contenders, &Options::default()).unwrap_err()
    };
    assert_eq!(run(&trace(vec![], vec![]), &[LEAST]), ReplayError::NoNodes);
    assert_eq!(run(&some, &[]), ReplayError::NoContender);
    let mut other = some.clone();
    other.header.nodes[0].models = vec!["x".to_owned()];
    assert_eq!(
        run(&other, &[LEAST]),
        ReplayError::NoSuchModel("m".to_owned())
    );
    assert!("fastest".parse::<Contender>().is_err());
    for contender in all() {
        assert_eq!(contender.to_string().parse(), Ok(contender));
    }
}

#[test]
fn the_report_is_text_and_json() {
    let report = replay(
        &trace(vec![node("a")], vec![request(0.0, 10)]),
        &[],
        &[ADAPTIVE, LEAST],
        &Options::default(),
    )
    .unwrap();
    let text = report.to_string();
    assert!(
        text.contains("adaptive") && text.contains("least_connections") && text.contains("2.00")
    );
    let json: Report = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(json, report);
}

#[test]
fn a_recorded_trace_can_be_replayed_and_tells_nothing() {
    let links = [
        Link {
            hash: 123_456_789,
            bytes: 400,
        },
        Link {
            hash: 987_654_321,
            bytes: 900,
        },
    ];
    let job = Job {
        model: "m",
        prompt_bytes: 1000,
        prefix: &links,
        max_tokens: Some(64),
    };
    let record = || {
        let mut file = Vec::new();
        let recorder = Recorder::new(&mut file).unwrap();
        for (second, ok) in [(3, true), (1, true), (2, false)] {
            let arrival = Arrival {
                at: Duration::from_secs(second),
                user: "anna@example.org",
                priority: Priority::High,
                waited: Duration::from_millis(100),
                ttft: Some(Duration::from_millis(300)),
                total: Duration::from_secs(2),
            };
            let outcome = Outcome {
                ok,
                tokens: Some(20),
                prompt_seconds: Some(0.125),
                ..Outcome::default()
            };
            recorder.record(&arrival, &job, &outcome).unwrap();
        }
        recorder.flush().unwrap();
        String::from_utf8(file).unwrap()
    };
    let text = record();
    for secret in ["anna", "example", "123456789", "987654321"] {
        assert!(!text.contains(secret), "{text}");
    }
    let read = Trace::read(text.as_bytes()).unwrap();
    let times: Vec<_> = read.requests.iter().map(|request| request.at).collect();
    assert_eq!(times, [1.0, 3.0], "in order, failures left out");
    let first = &read.requests[0];
    assert_eq!((first.waited, first.prefill), (Some(0.1), Some(0.125)));
    assert_eq!(read.requests[0].user, read.requests[1].user);
    assert_eq!(read.requests[0].prefix, read.requests[1].prefix);
    let other = Trace::read(record().as_bytes()).unwrap();
    assert_ne!(other.requests[0].user, read.requests[0].user, "another key");
    // The recorder was killed while it wrote: at the end, and before another begins on the same file.
    let half = "\n{\"at\":9,\"mod";
    let cut = Trace::read(format!("{text}{half}").as_bytes()).unwrap();
    assert_eq!((cut.requests, cut.cut), (read.requests.clone(), 1));
    let gone_on = format!("{text}{half}\n{}{half}", record());
    let gone_on = Trace::read(gone_on.as_bytes()).unwrap();
    assert_eq!((gone_on.requests.len(), gone_on.cut), (4, 2));
    let within = format!("{text}{half}\n{}", text.lines().last().unwrap());
    let refused = Trace::read(within.as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("line 5"), "{refused}");
    let twice = format!("{text}{}", record());
    let twice = Trace::read(twice.as_bytes()).unwrap();
    let times: Vec<_> = twice.requests.iter().map(|request| request.at).collect();
    assert_eq!(times, [1.0, 3.0, 4.0, 6.0], "one after the other");
    let result = replay(&read, &[node("a")], &[ADAPTIVE], &Options::default()).unwrap();
    assert_eq!(result.results[0].completed, 2);
    assert!(result.results[0].cached > 0.4, "{result}");
}
