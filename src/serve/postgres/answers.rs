//! The answers to a client that has signed in: to statements in one message, and to prepared ones.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::api::stmt::StoredStatement;
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, ConnectionHandle, DEFAULT_NAME};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Parse, ParseComplete, TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use futures::{Sink, SinkExt};

use super::limits::{Kept, STATEMENTS_MAX};
use super::parameters::{Prepared, Preparer, bound};
use super::settings::{self, Settings};
use super::{failure, rows};
use crate::query::Session;
use crate::query::guard::{self, Request};

/// Answers one connection.
pub(super) struct Answers {
    session: Session,
    preparer: Arc<Preparer>,
    settings: Mutex<Settings>,
    cancel: Arc<ConnectionHandle>,
    kept: Kept,
}

impl Answers {
    pub(super) fn new(session: Session, cancel: Arc<ConnectionHandle>) -> Answers {
        let settings = Mutex::new(Settings::new(session.time_max()));
        let preparer = Arc::new(Preparer(session.clone()));
        Answers { session, preparer, settings, cancel, kept: Kept::default() }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self, plan: datafusion::logical_expr::LogicalPlan, format: &Format) -> PgWireResult<Response> {
        let (session, cancel) = (self.session.clone(), Arc::clone(&self.cancel));
        let ready = rows::Ready { session, cancel, plan, time: self.settings().timeout() };
        rows::response(ready, format).map(Response::Query)
    }

    /// Answers a statement that came as text.
    async fn statement<C>(&self, client: &C, statement: Statement) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Send + Sync,
        C::PortalStore: PortalStore,
    {
        if guard::classify(&statement).map_err(failure::of_query)? != Request::Rows {
            return self.other(client, &statement);
        }
        in_order(client)?;
        let plan = self.session.plan_statement(statement).await.map_err(failure::of_query)?;
        self.rows(plan, &Format::UnifiedText)
    }

    /// Answers a statement that concerns the connection. Transactions have a beginning and an end, because clients
    /// expect it, and no meaning: every statement reads the newest version.
    fn other<C>(&self, client: &C, statement: &Statement) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Send + Sync,
        C::PortalStore: PortalStore,
    {
        let request = guard::classify(statement).map_err(failure::of_query)?;
        if !matches!(request, Request::Commit | Request::Rollback) {
            in_order(client)?;
        }
        let done = |tag| Ok(Response::Execution(Tag::new(tag)));
        match request {
            Request::Begin if client.transaction_status() == TransactionStatus::Idle => {
                Ok(Response::TransactionStart(Tag::new("BEGIN")))
            }
            Request::Begin => done("BEGIN"),
            Request::Commit if client.transaction_status() == TransactionStatus::Error => {
                Ok(Response::TransactionEnd(Tag::new("ROLLBACK")))
            }
            Request::Commit => Ok(Response::TransactionEnd(Tag::new("COMMIT"))),
            Request::Rollback => Ok(Response::TransactionEnd(Tag::new("ROLLBACK"))),
            Request::Set(set) => self.settings().set(set).and_then(|()| done("SET")),
            Request::Reset(reset) => self.settings().reset(reset).and_then(|()| done("RESET")),
            Request::Show(name) => {
                let value = self.settings().show(&name)?;
                rows::one(settings::shown_field(&name), &value).map(Response::Query)
            }
            Request::Deallocate(name) => {
                self.deallocate(client, &name.value);
                done("DEALLOCATE")
            }
            Request::Discard => {
                self.deallocate(client, "all");
                *self.settings() = Settings::new(self.session.time_max());
                done("DISCARD ALL")
            }
            Request::Rows => Err(failure::error("XX000", "a statement with rows was taken for another")),
        }
    }

    fn deallocate<C>(&self, client: &C, name: &str)
    where
        C: ClientPortalStore,
        C::PortalStore: PortalStore,
    {
        let store = client.portal_store();
        if name.eq_ignore_ascii_case("all") {
            self.kept.forget_all_prepared().iter().for_each(|name| store.rm_statement(name));
        } else {
            self.kept.forget_prepared(name);
            store.rm_statement(name);
        }
    }
}

/// After an error in a transaction, clients expect to be refused until they end it.
fn in_order(client: &impl ClientInfo) -> PgWireResult<()> {
    match client.transaction_status() {
        TransactionStatus::Error => {
            Err(failure::error("25P02", "the transaction has failed; nothing is answered until it ends"))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl SimpleQueryHandler for Answers {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements = guard::parse(query).map_err(failure::of_query)?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        if statements.len() > STATEMENTS_MAX {
            return Err(failure::error("54000", format!("a message holds at most {STATEMENTS_MAX} statements")));
        }
        let mut answers = Vec::with_capacity(statements.len());
        for statement in statements {
            answers.push(self.statement(client, statement).await?);
        }
        Ok(answers)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Answers {
    type Statement = Prepared;
    type QueryParser = Preparer;

    fn query_parser(&self) -> Arc<Preparer> {
        Arc::clone(&self.preparer)
    }

    /// As pgwire does it, but for so many statements only.
    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let prepared = StoredStatement::parse(client, &message, self.query_parser()).await?;
        self.kept.prepare(name)?;
        match prepared {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(name),
        }
        client.send(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    /// As pgwire does it, but for so many portals only.
    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = message.portal_name.as_deref().unwrap_or(DEFAULT_NAME);
        self.kept.bind(portal)?;
        match client.portal_store().get_statement(prepared) {
            Some(Entry::Value(statement)) => {
                let bound = Portal::try_new(&message, statement)?;
                client.portal_store().put_portal(Arc::new(bound));
            }
            Some(Entry::Empty) => client.portal_store().put_empty_portal(portal),
            None => return Err(PgWireError::StatementNotFound(prepared.to_owned())),
        }
        client.send(PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                self.kept.forget_prepared(name);
                client.portal_store().rm_statement(name);
            }
            TARGET_TYPE_BYTE_PORTAL => {
                self.kept.forget_portal(name);
                client.portal_store().rm_portal(name);
            }
            _ => {}
        }
        client.send(PgWireBackendMessage::CloseComplete(CloseComplete::new())).await?;
        Ok(())
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match &portal.statement.statement {
            Prepared::Rows(plan) => {
                in_order(client)?;
                self.rows(bound(plan, portal)?, &portal.result_column_format)
            }
            Prepared::Other(statement) => self.other(client, statement),
        }
    }
}
