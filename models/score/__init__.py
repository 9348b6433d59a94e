"""Score-based models: data drawn back from noise along learned scores (Song & Ermon 2019; Song et al. 2021)."""
