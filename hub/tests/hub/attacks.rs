//! What hostile pages and clients try, on the real server.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// The wire, without a client that knows better.
struct Raw(TcpStream);

impl Raw {
    async fn connect(stack: &Stack) -> Self {
        let url = stack.url();
        Self(TcpStream::connect(url.trim_start_matches("http://")).await.unwrap())
    }

    async fn say(&mut self, text: &str) {
        // The other side may have closed already; what it said is what counts.
        drop(self.0.write_all(text.as_bytes()).await);
    }

    /// All that comes until the other side closes.
    async fn rest(&mut self) -> String {
        let mut bytes = vec![];
        let read = tokio::time::timeout(WAIT, self.0.read_to_end(&mut bytes)).await;
        assert!(read.is_ok(), "the server closes");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[tokio::test]
async fn a_write_from_another_sites_page_is_refused() {
    let stack = Stack::start().await;
    let admin = stack.sign_in("admin").await;
    let host = stack.url().trim_start_matches("http://").to_owned();
    for (name, value) in [
        ("sec-fetch-site", "cross-site".to_owned()),
        ("sec-fetch-site", "same-site".to_owned()),
        ("origin", "http://evil.example".to_owned()),
        ("origin", "null".to_owned()),
        ("origin", format!("http://{host}.evil.example")),
        ("origin", format!("http://evil@{host}")),
    ] {
        for (method, path) in [
            (Method::POST, "/api/mission-control/kill-all"),
            (Method::POST, "/api/tokens"),
            (Method::POST, "/api/auth/password"),
            (Method::POST, "/api/auth/login"),
            (Method::POST, "/api/invitations/accept"),
            (Method::DELETE, "/api/auth/sessions"),
        ] {
            let request = admin.request(method.clone(), path).header(name, &value);
            let answer = request.json(&json!({"confirm": "KILL ALL"})).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name} {value} {method} {path}");
            assert!(answer.headers().get("set-cookie").is_none());
            assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "crossSite");
        }
    }
    // It is written down, in the name of whoever's browser it was; of a flood at least how much there was.
    let request = stack.nobody().request(Method::POST, "/api/auth/login").header("origin", "http://evil.example");
    assert_eq!(request.json(&json!({})).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let log = admin.get("/api/mission-control/audit?action=refused&limit=100").await.unwrap();
    let crossed = log["entries"].as_array().unwrap().iter().filter(|e| e["metadata"]["code"] == "crossSite");
    let names: Vec<_> = crossed.map(|e| e["user"]["name"].as_str().unwrap()).collect();
    assert!(names.iter().filter(|name| **name == "ADMIN").count() >= 30, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("a browser")).count(), 1, "{names:?}");
    // A form of another page can send no JSON; and a page of elsewhere may read nothing.
    let form = admin.request(Method::POST, "/api/mission-control/kill-all").form(&[("confirm", "KILL ALL")]);
    assert_eq!(form.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let request = admin.request(Method::OPTIONS, "/api/auth/me").header("origin", "http://evil.example");
    let preflight = request.header("access-control-request-method", "POST").send().await.unwrap();
    assert!(!preflight.headers().keys().any(|k| k.as_str().starts_with("access-control")), "{preflight:?}");
    admin.get("/api/auth/me").await.unwrap();
}

#[tokio::test]
async fn a_sign_in_never_takes_over_what_the_browser_brought() {
    let stack = Stack::start().await;
    let body = json!({"email": "operator@example.org", "password": "operatoroperator"});
    let planted = "mosaic_session=planted-by-somebody-else";
    let mut values = vec![];
    for _ in 0..2 {
        let request = stack.nobody().request(Method::POST, "/api/auth/login").header("cookie", planted);
        let answer = request.json(&body).send().await.unwrap();
        values.push(answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned());
    }
    assert!(values[0] != values[1] && !values.contains(&planted.to_owned()), "{values:?}");
    let victim = testkit::Person::with_cookie(stack.url(), planted);
    assert_eq!(victim.send(Method::GET, "/api/auth/me", None).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn behind_https_the_cookie_is_for_this_host_and_tls_only() {
    let stack = Stack::start_configured("public_url = \"https://mesh.example.org/\"", "").await;
    let body = json!({"email": "admin@example.org", "password": "adminadmin"});
    let nobody = stack.nobody();
    let request = nobody.request(Method::POST, "/api/auth/login").header("origin", "https://mesh.example.org");
    let answer = request.json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "our own page, by way of a proxy");
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in ["__Host-mosaic_session=", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/;"] {
        assert!(cookie.contains(part), "{part} in {cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let value = cookie.split(';').next().unwrap();
    let person = testkit::Person::with_cookie(stack.url(), value);
    person.get("/api/auth/me").await.unwrap();
    let plain = testkit::Person::with_cookie(stack.url(), value.trim_start_matches("__Host-"));
    assert_eq!(plain.send(Method::GET, "/api/auth/me", None).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let made =
        person.post("/api/invitations", json!({"email": "eve@example.org", "role": "observer"})).await.unwrap().1;
    assert!(made["link"].as_str().unwrap().starts_with("https://mesh.example.org/mission-control/invitation#"));
}

#[tokio::test]
async fn a_stream_without_cookie_or_token_is_refused() {
    let stack = Stack::start().await;
    let nobody = stack.nobody();
    let streams = [
        "/api/mission-control/stream".to_owned(),
        format!("/api/mission-control/sessions/{S1}/stream"),
        format!("/api/mission-control/sessions/{S1}/terminal"),
        "/agents/events".into(),
        format!("/agents/{S1}/messages/stream"),
    ];
    for path in streams {
        for query in ["", "?token=mm_x", "?access_token=mm_x"] {
            let answer = nobody.send(Method::GET, &format!("{path}{query}"), None).await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}{query}");
        }
    }
}

#[tokio::test]
async fn the_page_runs_nothing_that_is_not_a_file_of_it() {
    let stack = Stack::start().await;
    let answer = stack.nobody().send(Method::GET, "/mission-control", None).await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    for part in ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    for part in ["unsafe-inline", "unsafe-eval", "*", "http:", "https:"] {
        assert!(!policy.contains(part), "{part} in {policy}");
    }
    for path in ["/healthz", "/api/auth/me", "/nothing", "/api/openapi.json"] {
        let answer = stack.nobody().send(Method::GET, path, None).await.unwrap();
        let headers = answer.headers();
        assert_eq!(headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'", "{path}");
        assert_eq!(
            (&headers["x-content-type-options"], &headers["x-frame-options"]),
            (&"nosniff".parse().unwrap(), &"DENY".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn headers_are_not_made_of_what_a_client_says() {
    let stack = Stack::start().await;
    for id in ["x\r\nset-cookie: a=b", "x\tset-cookie: a=b", "<script>", &"x".repeat(200)] {
        let mut raw = Raw::connect(&stack).await;
        raw.say(&format!("GET /healthz HTTP/1.1\r\nhost: h\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n")).await;
        let answer = raw.rest().await.to_lowercase();
        assert!(!answer.contains("set-cookie") && !answer.contains("<script>"), "{answer}");
    }
    for path in ["/%0d%0aset-cookie:%20a=b", "/api/auth/oidc/%0d%0aset-cookie:a=b", "/mission-control/%0d%0ax: y"] {
        let answer = stack.nobody().send(Method::GET, path, None).await.unwrap();
        assert!(answer.headers().get("set-cookie").is_none() && answer.headers().get("x").is_none(), "{path}");
    }
    // Two requests in one, where a proxy would see one.
    let mut raw = Raw::connect(&stack).await;
    raw.say("POST /api/auth/login HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
    drop(raw.0.shutdown().await);
    let answer = raw.rest().await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_holds_nothing() {
    let stack = Stack::start_configured("", "[limits]\nbody_bytes = 2048\nheader_bytes = 8192\n").await;
    let admin = stack.sign_in("admin").await;
    let layout = json!({"layout": "x".repeat(3_000)});
    let answer = admin.send(Method::PUT, "/api/mission-control/layout", Some(&layout)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "tooLarge");
    for head in [
        format!("GET /healthz HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "y".repeat(20_000)),
        format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "y".repeat(20_000)),
        format!("GET /healthz HTTP/1.1\r\nhost: h\r\n{}\r\n", "x: y\r\n".repeat(500)),
    ] {
        let mut raw = Raw::connect(&stack).await;
        raw.say(&head).await;
        let answer = raw.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    admin.get("/api/auth/me").await.unwrap();
}

#[tokio::test]
async fn slow_clients_are_closed_and_hold_nobody_up() {
    let tables = "[limits]\nheader_timeout_s = 1\nbody_timeout_s = 1\nconnections_per_address = 40\n";
    let stack = Stack::start_configured("", tables).await;
    let admin = stack.sign_in("admin").await;
    let mut slow = vec![];
    for n in 0..30 {
        let mut raw = Raw::connect(&stack).await;
        match n % 3 {
            0 => raw.say("GET /healthz HT").await,
            1 => raw.say("GET /healthz HTTP/1.1\r\nhost: h\r\nx-a: b\r\n").await,
            _ => {
                let head = "POST /api/auth/login HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n";
                raw.say(&format!("{head}content-length: 100\r\n\r\n{{")).await;
            }
        }
        slow.push(raw);
    }
    admin.get("/api/auth/me").await.unwrap();
    for (n, raw) in slow.iter_mut().enumerate() {
        let mut answer = String::new();
        // A drop at a time keeps nothing open.
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < WAIT {
            raw.say("x").await;
            let mut bytes = [0; 4096];
            match tokio::time::timeout(Duration::from_millis(100), raw.0.read(&mut bytes)).await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(read)) => answer += &String::from_utf8_lossy(&bytes[..read]),
                Err(_) => {}
            }
        }
        assert!(begun.elapsed() < WAIT, "{n} is still open");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    wait_until("their places are free", WAIT, async || {
        let text = stack.nobody().send(Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
        let open = text.lines().find_map(|l| l.strip_prefix("mosaic_hub_http_connections ")?.parse::<u32>().ok());
        if open.is_some_and(|open| open < 8) { Ok(()) } else { Err(open) }
    })
    .await
    .unwrap();
    // Who opens more than is allowed is cut off; the rest goes on.
    let mut many = vec![];
    for _ in 0..80 {
        many.push(Raw::connect(&stack).await);
    }
    let mut cut = 0;
    for raw in &mut many {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_secs(5), raw.0.read(&mut byte)).await;
        cut += u32::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!(cut >= 40, "{cut}");
    drop(many);
    wait_until("there is room again", WAIT, async || admin.get("/api/auth/me").await.is_ok()).await.unwrap();
}
