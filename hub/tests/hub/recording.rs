//! The recording of a terminal: what the bus kept of it, as a file that players read.

use bus_schema::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::Person;

use crate::support::*;

const PATH: &str = "/api/mission-control/sessions/01JD8Z2V9Q0000000000000001/terminal/recording";

/// Head and events of a recording.
async fn recording(person: &Person, query: &str) -> (Value, Vec<Value>) {
    let answer = person.send(Method::GET, &format!("{PATH}{query}"), None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/x-asciicast");
    let text = answer.text().await.unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    (lines.next().unwrap(), lines.collect())
}

fn output(events: &[Value]) -> String {
    let of = |event: &Value| (event[1] == "o").then(|| event[2].as_str().unwrap().to_owned());
    events.iter().filter_map(of).collect()
}

#[tokio::test]
async fn the_terminal_of_a_session_that_has_ended_is_a_recording() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let observer = stack.sign_in("observer").await;
    knows_session(&observer, S1).await;
    // Nothing yet: there is no recording.
    assert_eq!(observer.send(Method::GET, PATH, None).await.unwrap().status(), StatusCode::NOT_FOUND);
    let session = SessionId::new(S1).unwrap();
    let subject =
        Subject::Terminal(WorkspaceId::new("default").unwrap(), node.name.clone(), session.clone()).to_string();
    let begun = hub::clock::now();
    // More pieces than are read from the stream at once, some sent twice, one lost.
    let line = |n: u64| format!("line {n:04}\r\n");
    let size = line(0).len() as u64;
    for n in (0..250).filter(|n| *n != 120) {
        let piece = Terminal {
            session_id: session.clone(),
            offset: n * size,
            data: line(n).into_bytes(),
            timestamp: begun.plus_millis(i64::try_from(n).unwrap() * 100),
            size: (n == 0).then_some(TerminalSize { cols: 100, rows: 30 }),
        };
        for _ in 0..if n % 50 == 0 { 2 } else { 1 } {
            let sent = node.bus.client.request(subject.clone(), encode(&piece).unwrap().into()).await;
            sent.unwrap();
        }
    }
    node.send_session(&node.session(S1, 2, "completed")).await;
    let (head, events) = recording(&observer, "").await;
    assert_eq!((&head["version"], &head["width"], &head["height"]), (&json!(2), &json!(100), &json!(30)));
    assert_eq!(head["mosaic"], json!({"sessionId": S1, "fromOffset": 0, "toOffset": 250 * size}));
    let whole: String = (0..250).filter(|n| *n != 120).map(line).collect();
    assert_eq!(output(&events), whole);
    let gap = events.iter().position(|event| event[1] == "m").unwrap();
    assert_eq!(events[gap][2], format!("bytes {} to {} are not kept", 120 * size, 121 * size));
    // On the clock of the node: the head has the whole second, the events what is behind it.
    let at = |event: &Value| head["timestamp"].as_f64().unwrap() + event[0].as_f64().unwrap();
    let last = begun.plus_millis(24_900).as_millis() as f64 / 1_000.0;
    assert!((at(events.last().unwrap()) - last).abs() < 0.002, "{} {last}", at(events.last().unwrap()));
    assert!(events.windows(2).all(|pair| pair[0][0].as_f64() <= pair[1][0].as_f64()));
    // Of a long one only the end.
    let (head, events) = recording(&observer, &format!("?last={}", 3 * size)).await;
    assert_eq!((&head["mosaic"]["fromOffset"], &head["width"]), (&json!(247 * size), &json!(100)));
    assert_eq!(output(&events), (247..250).map(line).collect::<String>());
    // A session that is not there has none either.
    let elsewhere = PATH.replace(S1, S2);
    assert_eq!(observer.send(Method::GET, &elsewhere, None).await.unwrap().status(), StatusCode::NOT_FOUND);
}
