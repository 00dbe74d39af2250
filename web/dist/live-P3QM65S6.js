import{b as a,c as b}from"./chunk-73VFVYFR.js";import"./chunk-CSHTDOGG.js";import"./chunk-26WC5L7M.js";import"./chunk-MEQKGGHQ.js";import"./chunk-HR7TGT6X.js";export{b as page,a as worklet};
