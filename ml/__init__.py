"""What is likely: features in, scores out. Reads the features schema, writes scores and artefacts; never imports Dagster or Streamlit."""
