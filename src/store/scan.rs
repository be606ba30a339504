//! A table as one principal sees it: the files and the memory of one view, without what has expired.
//!
//! The tenant is a capability, not a predicate that a statement brings along: a provider is made for one principal and
//! filters by itself, below everything that a statement can say. All providers of a session read the view that
//! [`Pin::renew`] took, so the scans of one statement agree.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, col, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;

use super::files::{Bounds, FileEntry};
use super::retention::{by_kept_days, kept_by, kept_from};
use super::{Store, StoreView, TableView};
use crate::model::pipeline::Micros;
use crate::model::principal::Principal;
use crate::model::schema::{StoreTable, timestamp_type};
use crate::query::{TableSource, Tables};

/// Texts of which there are few: a file has each once, and a small number for each row.
const LABELS: [&str; 9] =
    ["organisation_id", "module", "source", "level", "event", "method", "name", "unit", "pipeline"];

/// Tells wall time.
type Now = Arc<dyn Fn() -> Micros + Send + Sync>;

/// What a session reads until it is renewed.
pub struct Pin {
    store: Arc<Store>,
    now: Now,
    pinned: Mutex<(Arc<StoreView>, Micros)>,
}

impl Pin {
    fn new(store: &Arc<Store>, now: Now) -> Arc<Pin> {
        let pinned = Mutex::new((store.view(), now()));
        Arc::new(Pin { store: Arc::clone(store), now, pinned })
    }

    /// Takes the newest view, and the moment by which rows expire.
    pub fn renew(&self) {
        let newest = (self.store.view(), (self.now)());
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = newest;
    }

    fn get(&self) -> (Arc<StoreView>, Micros) {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The tables of sessions over a store. `now` tells wall time in microseconds since the Unix epoch.
pub fn table_source(store: Arc<Store>, now: impl Fn() -> Micros + Send + Sync + 'static) -> TableSource {
    let now: Now = Arc::new(now);
    Arc::new(move |principal| {
        let pin = Pin::new(&store, Arc::clone(&now));
        let provider = |table: StoreTable| -> (&'static str, Arc<dyn TableProvider>) {
            let schema = Arc::clone(store.schema(table));
            let (pin, principal) = (Arc::clone(&pin), principal.clone());
            (table.name(), Arc::new(StoreScan { table, schema, pin, principal }))
        };
        let providers = StoreTable::ALL.map(provider).into();
        let renew = Arc::clone(&pin);
        Tables { providers, renew: Arc::new(move || renew.renew()) }
    })
}

/// One table, bound to one principal.
struct StoreScan {
    table: StoreTable,
    schema: SchemaRef,
    pin: Arc<Pin>,
    principal: Principal,
}

impl fmt::Debug for StoreScan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {:?}", self.table.name(), self.principal)
    }
}

#[async_trait]
impl TableProvider for StoreScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (view, now) = self.pin.get();
        let scan = Scan::new(self, state, projection, filters, now)?;
        scan.plan(view.table(self.table))
    }
}

/// One scan while it is planned.
struct Scan<'a> {
    table: &'a StoreScan,
    state: &'a dyn Session,
    now: Micros,
    bounds: Bounds,
    /// Columns that the statement wants, then those that only the provider's own filters need.
    columns: Vec<usize>,
    wanted: usize,
}

impl<'a> Scan<'a> {
    fn new(
        table: &'a StoreScan,
        state: &'a dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        now: Micros,
    ) -> Result<Self> {
        let mut columns = projection.cloned().unwrap_or_else(|| (0..table.schema.fields().len()).collect());
        let wanted = columns.len();
        let own = [Some(table.table.time_column()), Some("organisation_id"), kept_by(table.table)];
        for name in own.into_iter().flatten() {
            let column = table.schema.index_of(name)?;
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let bounds = table.bounds(filters);
        Ok(Scan { table, state, now, bounds, columns, wanted })
    }

    fn plan(&self, view: &TableView) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts = Vec::new();
        let live = view.committed.files.iter().filter(|file| !file.is_outside(&self.bounds));
        let (whole, partly): (Vec<_>, Vec<_>) = live.partition(|file| self.is_unexpired(file));
        if !whole.is_empty() {
            parts.push(self.files(&whole)?);
        }
        let mut kept = partly.iter().map(|file| file.kept_days).collect::<Vec<_>>();
        kept.sort_unstable();
        kept.dedup();
        for days in kept {
            let files = partly.iter().filter(|file| file.kept_days == days).copied().collect::<Vec<_>>();
            let from = lit(time(kept_from(self.now, days)));
            parts.push(self.filtered(self.files(&files)?, col(self.table.table.time_column()).gt_eq(from))?);
        }
        if !view.hot.is_empty() {
            parts.push(self.memory(&view.hot)?);
        }
        let all: Arc<dyn ExecutionPlan> = match parts.len() {
            0 => Arc::new(EmptyExec::new(Arc::new(self.table.schema.project(&self.columns)?))),
            1 => parts.remove(0),
            _ => UnionExec::try_new(parts)?,
        };
        let own = match &self.table.principal {
            Principal::Operator => all,
            Principal::Organisation(organisation) => {
                self.filtered(all, col("organisation_id").eq(lit(organisation.as_str())))?
            }
        };
        self.projected(own)
    }

    /// True if no row of a file has expired.
    fn is_unexpired(&self, file: &FileEntry) -> bool {
        file.times.is_some_and(|(first, _)| first >= kept_from(self.now, file.kept_days))
    }

    fn files(&self, files: &[&Arc<FileEntry>]) -> Result<Arc<dyn ExecutionPlan>> {
        let store = self.table.pin.store.delta(self.table.table);
        // A scheme has no underscores.
        let scheme = self.table.table.name().replace('_', "-");
        let url = ObjectStoreUrl::parse(format!("maturion-{scheme}://store"))?;
        self.state.runtime_env().register_object_store(url.as_ref(), store.folder());
        let reader = CachedParquetFileReaderFactory::new(store.folder(), store.metadata());
        // The optimizer hands the filters above down to it, so that it skips files and pages, and rows where that pays. The
        // files have no bloom filters.
        let source = ParquetSource::new(Arc::clone(&self.table.schema))
            .with_pushdown_filters(!self.is_narrow())
            .with_reorder_filters(true)
            .with_bloom_filter_on_read(false)
            .with_parquet_file_reader_factory(Arc::new(reader));
        let file = |file: &&Arc<FileEntry>| PartitionedFile::new(file.path.to_string(), file.bytes);
        let threads = self.state.config().target_partitions().max(1);
        let groups = FileGroup::new(files.iter().map(file).collect()).split_files(threads);
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(Some(self.columns.clone()))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// True if all columns are cheap to decode: then it takes longer to skip a row here and there than to read it.
    fn is_narrow(&self) -> bool {
        let fields = self.columns.iter().map(|column| self.table.schema.field(*column));
        fields.into_iter().all(|field| field.data_type().is_primitive() || LABELS.contains(&field.name().as_str()))
    }

    fn memory(&self, batches: &[RecordBatch]) -> Result<Arc<dyn ExecutionPlan>> {
        let threads = self.state.config().target_partitions().max(1);
        let mut partitions = vec![Vec::new(); threads];
        for (place, batch) in batches.iter().enumerate() {
            partitions[place % threads].push(batch.clone());
        }
        let plan =
            MemorySourceConfig::try_new_exec(&partitions, Arc::clone(&self.table.schema), Some(self.columns.clone()))?;
        self.filtered(plan, self.table.unexpired(self.now)?)
    }

    fn filtered(&self, plan: Arc<dyn ExecutionPlan>, predicate: Expr) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = DFSchema::try_from(plan.schema())?;
        let predicate = self.state.create_physical_expr(predicate, &schema)?;
        Ok(Arc::new(FilterExec::try_new(predicate, plan)?))
    }

    /// Only what the statement wants.
    fn projected(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if self.wanted == self.columns.len() {
            return Ok(plan);
        }
        let schema = plan.schema();
        let column = |place: usize| {
            let name = schema.field(place).name();
            (Arc::new(Column::new(name, place)) as Arc<dyn PhysicalExpr>, name.clone())
        };
        Ok(Arc::new(ProjectionExec::try_new((0..self.wanted).map(column).collect::<Vec<_>>(), plan)?))
    }
}

impl StoreScan {
    /// True of a row in memory that has not expired.
    fn unexpired(&self, now: Micros) -> Result<Expr> {
        let from = by_kept_days(self.table, |days| lit(time(kept_from(now, days))))?;
        Ok(col(self.table.time_column()).gt_eq(from))
    }

    /// What the filters and the principal say about wanted rows. A filter that is not understood says nothing.
    fn bounds(&self, filters: &[Expr]) -> Bounds {
        let mut bounds = Bounds::default();
        filters.iter().for_each(|filter| self.narrow(&mut bounds, filter));
        if let Principal::Organisation(organisation) = &self.principal {
            bounds.organisation = Some(organisation.clone());
        }
        bounds
    }

    fn narrow(&self, bounds: &mut Bounds, filter: &Expr) {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.narrow(bounds, left);
                self.narrow(bounds, right);
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                if let (Expr::Column(column), Expr::Literal(value, _)) = (left.as_ref(), right.as_ref()) {
                    self.compare(bounds, &column.name, *op, value);
                } else if let (Expr::Literal(value, _), Expr::Column(column)) = (left.as_ref(), right.as_ref())
                    && let Some(op) = op.swap()
                {
                    self.compare(bounds, &column.name, op, value);
                }
            }
            Expr::Between(between) if !between.negated => {
                if let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                    (between.expr.as_ref(), between.low.as_ref(), between.high.as_ref())
                {
                    self.compare(bounds, &column.name, Operator::GtEq, low);
                    self.compare(bounds, &column.name, Operator::LtEq, high);
                }
            }
            _ => {}
        }
    }

    fn compare(&self, bounds: &mut Bounds, column: &str, op: Operator, value: &ScalarValue) {
        if column == self.table.time_column() {
            let Ok(ScalarValue::TimestampMicrosecond(Some(at), _)) = value.cast_to(&timestamp_type()) else { return };
            if matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq) {
                bounds.from = bounds.from.max(Some(at));
            }
            if matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq) {
                bounds.to = Some(bounds.to.map_or(at, |to| to.min(at)));
            }
        } else if column == "organisation_id" && op == Operator::Eq {
            bounds.organisation = value.try_as_str().flatten().map(str::to_owned).or(bounds.organisation.take());
        }
    }
}

fn time(at: Micros) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into()))
}
