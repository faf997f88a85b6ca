//! Links with TLS: who does not use it, or trusts another authority, does not get in.

use testkit::{Bus, NatsServer, TestIdentity};

#[tokio::test]
async fn a_server_with_certificates_takes_nobody_in_plain_and_is_known_by_its_authority_only() {
    let mut server = NatsServer::start_tls().unwrap();
    let (url, creds) = (server.url(), server.identity().hub_creds());
    let ca = server.ca().unwrap().to_owned();
    let hub = Bus::connect_tls(&url, &creds, "hub", Some(&ca)).await.unwrap();
    assert!(hub.client.server_info().tls_required);
    assert!(server.node("n1").await.is_ok() && server.reader().await.is_ok());

    // The client goes over to TLS since the server asks for it, and then trusts the system's authorities only.
    assert!(Bus::connect(&url, &creds, "hub").await.is_err(), "no authority");
    let mut other = TestIdentity::new().unwrap();
    let stranger = other.identity().tls(&[]).unwrap();
    assert!(Bus::connect_tls(&url, &creds, "hub", Some(&stranger.ca)).await.is_err(), "another mesh's authority");

    // By hand: what is not TLS gets no answer but the greeting.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(url.strip_prefix("nats://").unwrap()).await.unwrap();
    socket.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await.unwrap();
    let mut told = vec![];
    // The server may reset the connection while our bytes are on their way.
    let _ = socket.read_to_end(&mut told).await;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("\"tls_required\":true") && !told.contains("PONG"), "{told}");

    // A client that insists on TLS does not speak to a server without.
    let mut plain = NatsServer::start().unwrap();
    let (url, creds) = (plain.url(), plain.identity().hub_creds());
    assert!(Bus::connect_tls(&url, &creds, "hub", Some(&ca)).await.is_err());
}
