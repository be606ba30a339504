//! A network that can be cut: a proxy on the loopback between one process and the broker.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// How often a connection looks at what is wrong with the network.
const STEP: Duration = Duration::from_millis(20);

/// What is wrong with the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Everything arrives, later.
    Delay(Duration),
    /// Nothing arrives; connections stay open.
    Drop,
    /// Connections are closed, and new ones as soon as they are made.
    Reset,
}

#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    upstream: Arc<OnceLock<String>>,
    trouble: Arc<Mutex<Trouble>>,
}

impl Proxy {
    /// Listens; connections are forwarded once it is known where to.
    pub fn listen() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = Proxy { port, upstream: Arc::new(OnceLock::new()), trouble: Arc::new(Mutex::new(Trouble::None)) };
        let accepting = proxy.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let proxy = accepting.clone();
                std::thread::spawn(move || proxy.serve(client));
            }
        });
        proxy
    }

    pub fn forward_to(&self, upstream: &str) {
        self.upstream.set(upstream.to_owned()).expect("told once");
    }

    pub fn is(&self, trouble: Trouble) {
        *self.trouble.lock().expect("no panic") = trouble;
    }

    fn trouble(&self) -> Trouble {
        *self.trouble.lock().expect("no panic")
    }

    fn serve(&self, client: TcpStream) {
        while self.trouble() == Trouble::Drop {
            std::thread::sleep(STEP);
        }
        let Some(Ok(broker)) = self.upstream.get().map(TcpStream::connect) else { return };
        let (Ok(to_client), Ok(to_broker)) = (client.try_clone(), broker.try_clone()) else { return };
        let back = self.clone();
        std::thread::spawn(move || back.relay(broker, to_client));
        self.relay(client, to_broker);
    }

    /// Forwards one direction until either end closes.
    fn relay(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 65_536];
        let _ = from.set_read_timeout(Some(STEP));
        loop {
            match self.trouble() {
                Trouble::Reset => break,
                Trouble::Drop => {
                    std::thread::sleep(STEP);
                    continue;
                }
                Trouble::Delay(delay) => std::thread::sleep(delay),
                Trouble::None => {}
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if to.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
