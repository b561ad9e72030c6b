-- What is true in the simulated company and what no pipeline may read.

CREATE TABLE parameters (name TEXT PRIMARY KEY, value REAL, meaning TEXT);
CREATE TABLE channels (channel TEXT PRIMARY KEY, quality REAL, buyer_probability REAL, value_multiplier REAL, cost_per_person REAL, people INTEGER, buyers INTEGER, order_value REAL);
CREATE TABLE people (person_id INTEGER PRIMARY KEY, channel TEXT, is_buyer INTEGER, purchase_rate_per_week REAL, dropout_probability REAL, mean_order_value REAL, responsiveness REAL, orders INTEGER, dropped_out_on TEXT, is_alive INTEGER);
CREATE TABLE prospects (prospect_id INTEGER PRIMARY KEY, channel TEXT, conversion_probability REAL, is_person_id INTEGER);
CREATE TABLE opportunities (opportunity_id INTEGER PRIMARY KEY, win_probability REAL);
CREATE TABLE contracts (contract_id INTEGER PRIMARY KEY, story TEXT, cancellations_per_month REAL);
CREATE TABLE campaigns (campaign_id INTEGER PRIMARY KEY, effect_on_responsive REAL, members INTEGER, average_effect REAL, extra_orders INTEGER);
CREATE TABLE duplicates (cluster_id INTEGER, kind TEXT, record_id INTEGER, PRIMARY KEY (kind, record_id)) WITHOUT ROWID;
