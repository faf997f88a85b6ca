//! The faults that tests rely on are the ones they get.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use testkit::{Bus, FaultProxy, NatsServer, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const WITHIN: Duration = Duration::from_secs(10);

/// Answers every byte with the same byte.
async fn echo(tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            open.spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn exchange(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    let read = tokio::time::timeout(WITHIN, stream.read_exact(&mut answer)).await;
    read.map_err(std::io::Error::other)??;
    Ok(answer)
}

#[tokio::test]
async fn a_proxy_passes_delays_halves_and_cuts() {
    let mut tasks = JoinSet::new();
    let proxy = FaultProxy::start(echo(&mut tasks).await).await.unwrap();
    let connect = || TcpStream::connect(proxy.address());

    let mut stream = connect().await.unwrap();
    assert_eq!(exchange(&mut stream, b"hello").await.unwrap(), b"hello");
    assert_eq!(proxy.bytes(), 10);

    proxy.delay(Duration::from_millis(40));
    let begun = Instant::now();
    exchange(&mut stream, b"late").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(80), "once in each direction");

    proxy.heal();
    proxy.halve();
    stream.write_all(b"1234").await.unwrap();
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.len() <= 2, "{answer:?}");

    let mut stream = connect().await.unwrap();
    assert_eq!(exchange(&mut stream, b"hello").await.unwrap(), b"hello");
    proxy.cut();
    assert!(exchange(&mut stream, b"hello").await.is_err());
    let mut refused = connect().await.unwrap();
    assert!(exchange(&mut refused, b"hello").await.is_err());
    proxy.heal();
    let mut stream = connect().await.unwrap();
    assert_eq!(exchange(&mut stream, b"hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_silent_peer_loses_nothing_when_it_speaks_again() {
    let mut tasks = JoinSet::new();
    let proxy = FaultProxy::start(echo(&mut tasks).await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut stream, b"hello").await.unwrap();
    proxy.silence();
    stream.write_all(b"are you there").await.unwrap();
    let mut answer = [0; 13];
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await.is_err());
    proxy.heal();
    tokio::time::timeout(WITHIN, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"are you there");
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_its_store() {
    let mut server = NatsServer::start().unwrap();
    let (port, pid) = (server.port(), server.pid().unwrap());
    let hub = server.hub().await.unwrap();
    let context = async_nats::jetstream::new(hub.client.clone());
    let config =
        async_nats::jetstream::stream::Config { name: "S".into(), subjects: vec!["s".into()], ..Default::default() };
    context.create_stream(config).await.unwrap();
    context.publish("s", "kept".into()).await.unwrap().await.unwrap();

    server.kill9();
    assert!(!testkit::proc::is_alive(pid));
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    let message = wait_until("the stream is back", WITHIN, async || {
        // What was asked before the client noticed is never answered.
        let ask = async {
            let stream = context.get_stream("S").await.map_err(|e| e.to_string())?;
            stream.get_raw_message(1).await.map_err(|e| e.to_string())
        };
        tokio::time::timeout(Duration::from_millis(500), ask).await.map_err(|e| e.to_string())?
    });
    assert_eq!(&*message.await.unwrap().payload, b"kept");

    let proxy = FaultProxy::start(format!("127.0.0.1:{port}")).await.unwrap();
    let creds = server.identity().hub_creds();
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let through = Bus::connect(&url, &creds, "hub").await.unwrap();
    proxy.cut_once();
    wait_until("the client has come back by itself", WITHIN, async || {
        let events = through.events();
        if events.iter().filter(|e| *e == "connected").count() == 2 { Ok(()) } else { Err(events) }
    })
    .await
    .unwrap();
    server.stop().unwrap();
    assert_eq!(server.pid(), None);
}
