//! Mail, through a server that the configuration names.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::config::notify::{Encryption, Mail};

use super::Delivery;
use super::payload;
use super::send::SendError;

/// A contact's mailbox, and the way to it.
pub(super) struct Postman {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Postman {
    pub(super) fn new(mail: &Mail, timeout: Duration) -> Result<Postman, SendError> {
        let mailbox = |text: &String| {
            text.parse::<Mailbox>().map_err(|_| SendError::Setup("an address of a mail is none".to_owned()))
        };
        let parameters = || TlsParameters::new(mail.host.clone()).map_err(|error| SendError::Setup(error.to_string()));
        let tls = match mail.encryption {
            Encryption::Tls => Tls::Wrapper(parameters()?),
            Encryption::StartTls => Tls::Required(parameters()?),
            Encryption::Nothing => Tls::None,
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host);
        let builder = builder.port(mail.port).tls(tls).timeout(Some(timeout));
        let builder = match &mail.sign_in {
            Some((user, password)) => builder.credentials(Credentials::new(user.clone(), password.reveal().to_owned())),
            None => builder,
        };
        Ok(Postman {
            transport: builder.build(),
            from: mailbox(&mail.from)?,
            to: mail.to.iter().map(mailbox).collect::<Result<_, _>>()?,
        })
    }

    pub(super) async fn send(&self, delivery: &Delivery) -> Result<(), SendError> {
        let (subject, text) = payload::mail(delivery);
        let mut builder = Message::builder().from(self.from.clone()).subject(subject);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        // The same delivery is the same message; those of one alert belong together.
        let thread = format!("<{}@maturion>", delivery.alert);
        let builder = builder
            .message_id(Some(format!("<{}@maturion>", delivery.id)))
            .references(thread)
            .header(ContentType::TEXT_PLAIN);
        let message = builder.body(text).map_err(|error| SendError::Refused { reason: error.to_string() })?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(SendError::Refused { reason: status(&error) }),
            Err(error) => Err(SendError::Later { wait: None, reason: status(&error) }),
        }
    }
}

/// What went wrong, without what the server says: it may repeat the addresses.
fn status(error: &lettre::transport::smtp::Error) -> String {
    match error.status() {
        Some(code) => format!("the mail server said {code}"),
        None if error.is_timeout() => "the mail server did not answer in time".to_owned(),
        None => "the mail server cannot be reached".to_owned(),
    }
}
