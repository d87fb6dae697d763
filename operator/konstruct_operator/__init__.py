"""The kopf operator: renders Agents into ConfigMaps and proves that every worker serves them."""
